"""The proof kit: it passes what keeps the contract, and catches what does not, for its reason."""

import pickle

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st

from echokit import Delimited, Framing, LengthPrefixed, Raw
from echokit.testing.proof import RULES, BrokenRule, check_framing
from tests.testing import broken_framings as shelf

SOUND: list[Framing] = [
    Raw(),
    LengthPrefixed(),
    LengthPrefixed(prefix_bytes=1),
    LengthPrefixed(prefix_bytes=8, byte_order="little", max_message=100),
    Delimited(),
    Delimited(delimiter="\r\n"),
    Delimited(delimiter="aab"),
    shelf.Sound(),
    shelf.LargeOnly(),
]

BROKEN: list[tuple[type[Framing], str]] = [
    (shelf.StripsSpaces, "round trip"),
    (shelf.TrustsItsOptions, "encode"),
    (shelf.LosesTheRestOfAPiece, "any split"),
    (shelf.WantsWholeHeaders, "byte by byte"),
    (shelf.ChecksNothing, "hostile bytes"),
    (shelf.RisesAgain, "stays failed"),
    (shelf.EncodesAnything, "limit"),
    (shelf.OneTooMany, "limit"),
    (shelf.OneTooFew, "limit"),
    (shelf.TrustsTheHeader, "memory"),
    (shelf.CleanAfterAHeader, "end of stream"),
    (shelf.NeverIncomplete, "end of stream"),
    (shelf.AlwaysIncomplete, "end of stream"),
    (shelf.KeepsTheBuffer, "own buffers"),
    (shelf.HoldsAView, "own buffers"),
    (shelf.CopiesTheRest, "linear time"),
    (shelf.JoinsAnew, "linear time"),
    (shelf.NeverAdvances, "hostile bytes"),
    (shelf.RaisesWhereItIsFed, "hostile bytes"),
    (shelf.TurnsLongOnes, "round trip"),
    (shelf.GivesBytearrays, "round trip"),
    (shelf.EncodesBytearrays, "encode"),
    (shelf.EncodesNothing, "encode"),
    (shelf.SharesItsBuffer, "independent"),
    (shelf.SplitsAtItsDelimiter, "round trip"),
]


@pytest.mark.parametrize("examples", [5, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("framing", SOUND, ids=repr)
def test_a_sound_framing_passes(framing: Framing, examples: int) -> None:
    check_framing(framing, max_examples=examples)


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "rule"), BROKEN)
def test_a_broken_framing_is_caught_for_its_reason(broken: type[Framing], rule: str) -> None:
    with pytest.raises(BrokenRule) as caught:
        check_framing(broken(type=broken.model_fields["type"].default))
    assert caught.value.rule == rule
    assert broken.__name__ in str(caught.value)
    assert RULES[rule] in str(caught.value)


def test_every_rule_has_a_framing_that_breaks_it() -> None:
    assert {rule for _, rule in BROKEN} == set(RULES)


def test_the_smallest_bytes_are_shown() -> None:
    with pytest.raises(BrokenRule) as caught:
        check_framing(shelf.StripsSpaces())
    # As a test runner does that has its tests in other processes.
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - ours
    # One message of one byte of white space is as small as it gets.
    assert "sent [b'\\t']" in caught.value.shown or "sent [b' ']" in caught.value.shown


@pytest.mark.slow
def test_a_framing_that_carries_few_messages_needs_to_be_told_which() -> None:
    with pytest.raises(ValueError, match="say with `messages=`"):
        check_framing(shelf.Record())
    records = st.binary(min_size=400, max_size=400)
    check_framing(shelf.Record(), messages=records, max_examples=10)


def test_a_profile_of_hypothesis_that_generates_nothing_does_not_skip_the_proof() -> None:
    before = settings.default
    settings.register_profile("nothing", phases=[Phase.explicit])
    settings.load_profile("nothing")
    try:
        with pytest.raises(BrokenRule):
            check_framing(shelf.StripsSpaces())
    finally:
        settings.register_profile("before", before)
        settings.load_profile("before")
