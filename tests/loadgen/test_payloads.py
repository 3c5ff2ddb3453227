"""What is sent: the same from the same seed, and different from exchange to exchange."""

import pytest

from echokit import ConfigError, Delimited, LengthPrefixed, Raw
from echokit.framing.base import Framing
from echokit.loadgen.payloads import Payloads


@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed(), Delimited()])
def test_the_same_seed_gives_the_same_sizes_and_payloads(framing: Framing) -> None:
    first, again, other = (Payloads(seed, 10, 500, framing) for seed in (5, 5, 6))
    assert first.messages == again.messages
    assert first.wires == again.wires
    assert first.messages != other.messages


def test_sizes_are_drawn_evenly_between_the_least_and_the_greatest() -> None:
    sizes = [len(message) for message in Payloads(1, 10, 19, Raw()).messages]
    assert set(sizes) == set(range(10, 20))
    counts = [sizes.count(size) for size in range(10, 20)]
    assert min(counts) > len(sizes) / 10 * 0.8


@pytest.mark.parametrize("seed", range(5))
def test_few_large_messages_are_spread_over_the_range_whatever_the_seed(seed: int) -> None:
    least, greatest = 1, 8 << 20
    sizes = sorted(len(message) for message in Payloads(seed, least, greatest, Raw()).messages)
    assert len(sizes) == 4
    assert sum(sizes) / 4 == (least + greatest) / 2
    assert [4 * (size - least) // (greatest - least + 1) for size in sizes] == [0, 1, 2, 3]


@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed(), Delimited()])
def test_neighbours_in_the_pool_differ(framing: Framing) -> None:
    messages = Payloads(1, 16, 16, framing).messages
    assert len(set(messages)) == len(messages)
    assert len({Payloads(1, 16, 16, framing).start(number) for number in range(100)}) == 100


@pytest.mark.parametrize("size", [1, 4096, 1 << 20, 16 << 20])
def test_the_pool_is_bounded_and_its_size_a_power_of_two(size: int) -> None:
    payloads = Payloads(1, size, size, Raw())
    assert sum(map(len, payloads.messages)) <= max(16 << 20, 4 * size)
    assert len(payloads) & (len(payloads) - 1) == 0


def test_what_a_delimiter_would_cut_is_not_drawn() -> None:
    framing = Delimited(delimiter="\n")
    decoder = framing.decoder()
    payloads = Payloads(3, 100, 300, framing)
    for message, wire in zip(payloads.messages, payloads.wires, strict=True):
        decoder.receive_data(wire)
        assert decoder.next_message() == message


def test_a_framing_that_cannot_carry_the_size_is_an_error_that_names_the_option() -> None:
    with pytest.raises(
        ConfigError, match=r"--size: framing length-prefixed cannot carry it: .*100"
    ):
        Payloads(1, 50, 200, LengthPrefixed(max_message=100))
