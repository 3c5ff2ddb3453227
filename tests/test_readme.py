"""The README's Python is run as it stands there."""

import re

import pytest

from echokit import Framing, FramingError, IncompleteMessage, MessageTooLarge
from tests.conftest import AVAILABLE, FAMILIES, ROOT

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_the_library_example_runs() -> None:
    found = [block for block in BLOCKS if "EchoServer" in block]
    assert len(found) == 1
    if FAMILIES["ipv6"][0] not in AVAILABLE:
        pytest.skip("this host has no ::1")
    exec(found[0], {})  # noqa: S102 - it is the example that is under test


def test_the_framing_example_keeps_the_contract() -> None:
    found = [block for block in BLOCKS if "VarintPrefixed" in block]
    assert len(found) == 1
    module: dict[str, object] = {"__name__": "readme"}
    exec(found[0], module)  # noqa: S102 - as above
    varint = module["VarintPrefixed"]
    assert isinstance(varint, type)
    assert issubclass(varint, Framing)
    framing = varint(type="varint")
    messages = [b"", b"a", b"x" * 127, b"y" * 128, b"z" * 70_000]
    wire = b"".join(framing.encode(message) for message in messages)
    for cut in (1, 7, len(wire)):
        decoder = framing.decoder()
        back: list[bytes] = []
        for at in range(0, len(wire), cut):
            decoder.receive_data(wire[at : at + cut])
            back.extend(iter(decoder.next_message, None))
        decoder.receive_eof()
        assert back == messages
    for hostile, error in ((b"\xff" * 10, MessageTooLarge), (b"\x80" * 10, FramingError)):
        decoder = framing.decoder()
        decoder.receive_data(hostile)
        for _ in range(2):
            with pytest.raises(error):
                decoder.next_message()
    decoder = framing.decoder()
    decoder.receive_data(b"\x05ab")
    assert decoder.next_message() is None
    with pytest.raises(IncompleteMessage):
        decoder.receive_eof()
