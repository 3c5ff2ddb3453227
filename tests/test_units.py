"""Sizes and times: what is read, what is refused, and that what is shown can be read again."""

import math
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from echokit.units import (
    Duration,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

SIZE = TypeAdapter[int](Annotated[int, Size(10, 20)])
TIME = TypeAdapter[float](Annotated[float, Duration(1, 2)])


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("16", 16),
        ("007", 7),
        ("5B", 5),
        ("64k", 65536),
        ("64K", 65536),
        ("64KiB", 65536),
        ("64kB", 64000),
        ("3M", 3 << 20),
        ("1MiB", 1 << 20),
        ("2MB", 2_000_000),
        ("1G", 1 << 30),
        ("1GiB", 1 << 30),
        ("1GB", 10**9),
        ("999999999999999", 10**15 - 1),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "k", "MiB", "-1", "+1", "-5k", "1.5k", "1,000", "1_000", "10 k", " 10k", "10k "),
        *("10k\n", "10kb", "10KB", "10kib", "10mib", "10mb", "10m", "10g", "10T", "10TiB", "10MBB"),
        *("0x10", "1e3", "ten", "nan", "inf", "\uff17", "٣k", "1" * 16, "1" * 5000, "10k10k"),
    ],
)
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"like 64k, 1MiB, 2MB$"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (16, "16"),
        (1000, "1000"),
        (1024, "1KiB"),
        (1536, "1536"),
        (65536, "64KiB"),
        (1 << 20, "1MiB"),
        ((1 << 20) + 1024, "1025KiB"),
        (1 << 30, "1GiB"),
        (1 << 40, "1024GiB"),
    ],
)
def test_a_size_is_shown_in_the_largest_unit_that_says_it_exactly(size: int, text: str) -> None:
    assert format_size(size) == text


@given(
    st.integers(0, 1 << 40)
    | st.builds(lambda n, by: n << by, st.integers(0, 1023), st.integers(0, 30))
)
def test_a_size_that_is_shown_is_read_as_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("5s", 5.0),
        ("0.5s", 0.5),
        ("250ms", 0.25),
        ("1.5ms", 0.0015),
        ("20us", 20e-6),
        ("5m", 300.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1h1m1s1ms", 3661.001),
        ("24h", 86400.0),
    ],
)
def test_a_time_is_read_as_people_write_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["5", "0", "0.25", "30"])
def test_a_number_alone_is_seconds_in_text_as_in_a_file(text: str) -> None:
    # A flag or a variable is text, and its error says "write a time as a number of seconds".
    assert parse_duration(text) == float(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "s", "ms", "-5s", "+5s", "5 s", " 5s", "5s ", "5s\n", "1m 30s", "1m30", ".5s"),
        *("5.s", "5S", "5sec", "5min", "5d", "1,5s", "1_0s", "1e3s", "nan", "inf", "nans", "infs"),
        *("\uff17s", "٣s", "1:30", "1" * 13 + "s", "9" * 5000 + "s", "0x5s", "5mss", "s5"),
    ],
)
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"like 250ms, 5s, 1m30s$"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.001, "1ms"),
        (0.25, "250ms"),
        (0.0015, "1.5ms"),
        (20e-6, "20us"),
        (1, "1s"),
        (2.5, "2.5s"),
        (59.5, "59.5s"),
        (60, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (90.5, "90.5s"),
        (86400, "24h"),
    ],
)
def test_a_time_is_shown_in_the_unit_that_reads_best(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(
    st.floats(1e-6, 86400)
    | st.floats(1e-6, 1)
    | st.integers(0, 86400)
    | st.integers(0, 86_400_000).map(lambda milliseconds: milliseconds / 1000)
)
def test_a_time_that_is_shown_is_read_as_the_same(seconds: float) -> None:
    # It is shown as what is in effect, so that no digit of it may be lost.
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize("seconds", [1e-9, 1e-12])
def test_however_short_a_time_is_it_is_shown_so_that_it_can_be_read(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize("value", [10, 20, "10", "20B"])
def test_a_size_field_holds_both_its_ends(value: object) -> None:
    assert SIZE.validate_python(value) in {10, 20}


@pytest.mark.parametrize(
    "value", [9, 21, "9", "21", "1k", -10, True, 10.0, None, b"10", [10], math.nan, math.inf]
)
def test_a_size_field_refuses_what_is_outside_and_what_is_no_size(value: object) -> None:
    with pytest.raises(ValidationError):
        SIZE.validate_python(value)


@pytest.mark.parametrize("value", [1, 2, 1.0, 1.5, "1s", "1500ms"])
def test_a_time_field_holds_both_its_ends(value: object) -> None:
    assert 1 <= TIME.validate_python(value) <= 2


@pytest.mark.parametrize(
    "value",
    [0.999, 2.001, -1, "999ms", "2.001s", True, None, b"1s", [1], math.nan, math.inf, -math.inf],
)
def test_a_time_field_refuses_what_is_outside_and_what_is_no_time(value: object) -> None:
    with pytest.raises(ValidationError):
        TIME.validate_python(value)
