"""The framing keeps its contract, and echoes over both families, however it is cut."""

import pytest

from echokit import EchoClient
from echokit.testing import RunningServer, check_framing
from echokit_varint import VarintPrefixed


@pytest.mark.parametrize("max_message", [0, 5, 300, 1 << 20])
def test_it_keeps_the_contract(max_message: int) -> None:
    check_framing(VarintPrefixed(max_message=max_message))


@pytest.mark.echokit(framing="varint", segment="random")
def test_it_echoes_over_both_families_however_it_is_cut(
    echokit_server: RunningServer, echokit_client: EchoClient
) -> None:
    messages = [b"", b"hello", b"x" * 127, b"y" * 128]
    for message in messages:
        assert echokit_client.echo(message) == message
    assert echokit_server.messages == [messages]
