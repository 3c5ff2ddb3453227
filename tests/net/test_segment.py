"""How what is sent is cut: the sizes of the pieces, as numbers alone."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echokit.net.segment import JOINED, RANDOM, Segmentation, Segments

seeds = st.integers(0, (1 << 64) - 1)
sizes = st.lists(st.integers(1, 1000), min_size=1, max_size=6).map(tuple)
cuts = st.builds(Segmentation, sizes | st.just(RANDOM), st.just(0.0), seeds)


def _pieces(segments: Segments, total: int, taken: Iterable[int] = ()) -> list[int]:
    """The pieces of `total` bytes, where the system takes at most `taken` bytes at a time."""
    pieces = [0]
    limits = itertools.chain(taken, itertools.repeat(total))
    while total:
        size = min(segments.left, next(limits), total)
        assert size >= 1
        pieces[-1] += size
        total -= size
        if segments.sent(size) and total:
            pieces.append(0)
    return pieces


@given(segmentation=cuts, connection=st.integers(0, 5), total=st.integers(1, 20_000))
def test_the_pieces_add_up_and_none_is_empty(
    segmentation: Segmentation, connection: int, total: int
) -> None:
    pieces = _pieces(Segments(segmentation, connection), total)
    assert sum(pieces) == total
    assert min(pieces) >= 1


@given(sizes=sizes, connection=st.integers(0, 5), total=st.integers(1, 20_000))
def test_listed_sizes_come_over_and_over_for_every_connection(
    sizes: tuple[int, ...], connection: int, total: int
) -> None:
    *pieces, last = _pieces(Segments(Segmentation(sizes), connection), total)
    expected = itertools.cycle(sizes)
    assert pieces == list(itertools.islice(expected, len(pieces)))
    assert last <= next(expected)


@given(
    segmentation=cuts,
    total=st.integers(1, 5000),
    taken=st.lists(st.integers(1, 50), max_size=50),
)
def test_what_the_system_takes_at_a_time_does_not_move_the_cuts(
    segmentation: Segmentation, total: int, taken: list[int]
) -> None:
    whole = _pieces(Segments(segmentation, 1), total)
    assert _pieces(Segments(segmentation, 1), total, taken) == whole


@given(segmentation=cuts, first=st.integers(1, 5000), second=st.integers(1, 5000))
def test_a_piece_goes_on_where_one_message_ends_and_the_next_begins(
    segmentation: Segmentation, first: int, second: int
) -> None:
    whole = _pieces(Segments(segmentation, 1), first + second)
    segments = Segments(segmentation, 1)
    before = _pieces(segments, first)
    after = _pieces(segments, second)
    at = set(itertools.accumulate(whole))
    found = {*itertools.accumulate(before), *(first + end for end in itertools.accumulate(after))}
    assert found == at | {first}


@given(seed=seeds, connection=st.integers(0, 100))
def test_the_same_seed_gives_the_same_cuts(seed: int, connection: int) -> None:
    segmentation = Segmentation(RANDOM, seed=seed)
    one, other = (_pieces(Segments(segmentation, connection), 10_000) for _ in range(2))
    assert one == other


@given(seed=seeds, connections=st.lists(st.integers(0, 1000), min_size=2, max_size=2, unique=True))
def test_another_connection_is_cut_elsewhere(seed: int, connections: list[int]) -> None:
    segmentation = Segmentation(RANDOM, seed=seed)
    one, other = (_pieces(Segments(segmentation, number), 30_000) for number in connections)
    assert one != other


@given(found=st.lists(seeds, min_size=2, max_size=2, unique=True))
def test_another_seed_cuts_elsewhere(found: list[int]) -> None:
    one, other = (_pieces(Segments(Segmentation(RANDOM, seed=seed), 1), 30_000) for seed in found)
    assert one != other


def test_random_cuts_are_mostly_in_headers_and_now_and_then_far_apart() -> None:
    pieces = _pieces(Segments(Segmentation(RANDOM, seed=7), 1), 1_000_000)
    small = sum(size <= 8 for size in pieces)
    assert 0.7 < small / len(pieces) < 0.8
    assert set(range(1, 9)) < set(pieces)
    assert 50 < max(pieces) <= 64


@pytest.mark.parametrize(
    ("how", "delay", "expected"),
    [((1,), 0.0, 0.0), (RANDOM, 0.0, 0.0), ((2, 3), 0.5, 0.5), (JOINED, 0.5, 0.5)],
)
def test_the_pause_is_the_one_that_was_asked_for(
    how: tuple[int, ...] | str, delay: float, expected: float
) -> None:
    assert Segments(Segmentation(how, delay), 1).delay == expected


def test_what_is_joined_is_gathered_for_a_while_if_nothing_is_said() -> None:
    assert 0 < Segments(Segmentation(JOINED), 1).delay < 0.1


@pytest.mark.parametrize(
    ("segmentation", "shown"),
    [
        (Segmentation((1, 3)), "segment=[1, 3]"),
        (Segmentation((1,), 0.5, 7), "segment=[1], segment_delay=0.5"),
        (Segmentation(RANDOM, seed=7), "segment='random', seed=7"),
        (Segmentation(JOINED), "segment='joined'"),
    ],
)
def test_it_is_told_as_it_can_be_given_again(segmentation: Segmentation, shown: str) -> None:
    assert str(segmentation) == shown
