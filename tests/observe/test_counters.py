"""The numbers: how ends and open connections add up, and how they are told."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from echokit import End, Ending
from echokit.net.admission import Refusal
from echokit.observe.counters import Counters

_numbers = st.integers(0, 1 << 70)
_ends = st.builds(End, st.sampled_from(Ending), st.none(), _numbers, _numbers, _numbers)


def _counted(ends: list[End]) -> Counters:
    counters = Counters()
    for end in ends:
        counters.add_end(end.ending, end)
    return counters


@given(st.lists(_ends))
def test_ends_add_up(ends: list[End]) -> None:
    counters = _counted(ends)
    assert counters.ended.total() == len(ends) == counters.accepted
    assert counters.bytes_in == sum(end.bytes_in for end in ends)
    assert counters.bytes_out == sum(end.bytes_out for end in ends)
    assert counters.messages == sum(end.messages for end in ends)


@given(st.lists(_ends), st.lists(_ends))
def test_what_is_open_counts_and_leaves_the_numbers_of_the_ended_alone(
    ends: list[End], still_open: list[End]
) -> None:
    counters = _counted(ends)
    before = counters.as_dict()
    # An open connection has the same numbers as its end will have.
    whole = counters.with_open(still_open)
    assert counters.as_dict() == before
    assert whole.open == len(still_open)
    assert whole.accepted == whole.open + whole.ended.total()
    assert whole.bytes_in == sum(each.bytes_in for each in [*ends, *still_open])


@given(st.lists(_ends), st.lists(_ends))
def test_two_servers_have_the_sum(ends: list[End], others: list[End]) -> None:
    assert _counted(ends) + _counted(others) == _counted([*ends, *others])


def test_every_kind_of_end_and_of_refusal_has_its_number() -> None:
    counters = Counters(accepted=1, ended=Counter({Ending.IDLE: 1}))
    found = json.loads(json.dumps(counters.as_dict()))
    assert found["ended"] == {ending.value: int(ending is Ending.IDLE) for ending in Ending}
    assert found["refused"] == {refusal.value: 0 for refusal in Refusal}
    assert set(found) == {
        *("accepted", "open", "messages", "bytes_in", "bytes_out"),
        *("ended", "refused", "pauses", "accept_failures"),
    }


def test_people_are_told_what_there_was_and_nothing_of_what_there_was_not() -> None:
    assert Counters().in_words() == [
        "0 connections accepted, 0 open; 0 messages, 0 bytes in, 0 bytes out"
    ]
    ended = Counter({Ending.RESET: 1, Ending.CLEAN: 3})
    full = Counters(
        accepted=1,
        open=2,
        messages=3,
        bytes_in=5,
        bytes_out=6,
        ended=ended,
        refused=Counter({Refusal.DENIED: 7, Refusal.TOO_MANY: 8}),
        pauses=9,
        accept_failures=10,
    )
    assert full.in_words() == [
        "1 connection accepted, 2 open; 3 messages, 5 bytes in, 6 bytes out",
        "ended: 3 clean, 1 reset",
        "refused: 8 too-many-of-one-peer, 7 denied; accept failed: 10;"
        " paused at max_connections: 9",
    ]


def test_one_is_not_told_as_several() -> None:
    (line,) = Counters(accepted=1, open=1, messages=1, bytes_in=1, bytes_out=1).in_words()
    assert line == "1 connection accepted, 1 open; 1 message, 1 byte in, 1 byte out"
