"""sockperf's messages as a framing, and `echokit load` beside sockperf's client on its server."""

import socket
import struct

import pytest

from benchmarks import sockperf
from benchmarks.build import UnavailableError
from benchmarks.cases import Bench
from benchmarks.comparison import compare
from benchmarks.generator import Load, LoadFailedError, choose_generator
from benchmarks.load_checks import LOAD_CHECKS, ONE, SOCKPERF, Latency, load
from benchmarks.measure import Results
from benchmarks.peers import start
from benchmarks.processes import Cores, choose_cores
from benchmarks.sockperf import HEADER, Sockperf
from echokit import Endpoint, FramingError, IncompleteMessage, MessageTooLarge
from tests.benchmarks.wrong_servers import Answer, serving
from tests.framing.decoding import decoded, failure

MESSAGES = [b"", b"x", b"hello" * 100, bytes(range(256))]
# Where the flags stand: after the sequence number, and of these the low byte.
FLAGS = 9


def _answer(wire: bytes) -> bytes:
    """What sockperf's server makes of one message: the client's flag is taken away."""
    return wire[:FLAGS] + bytes([wire[FLAGS] & ~1]) + wire[FLAGS + 1 :]


def test_a_message_stands_behind_sequence_flags_and_the_length_of_all() -> None:
    wire = Sockperf().encode(b"hello")
    assert len(wire) == 14 + 5
    assert wire[8:10] == b"\x00\x03"
    assert struct.unpack("!I", wire[10:14]) == (19,)
    assert wire[14:] == b"hello"


@pytest.mark.parametrize("size", [1, 2, 13, 14, 15, 1000])
def test_answers_give_the_payloads_however_they_are_cut(size: int) -> None:
    wire = b"".join(_answer(Sockperf().encode(message)) for message in MESSAGES)
    pieces = [wire[at : at + size] for at in range(0, len(wire), size)]
    assert decoded(Sockperf().decoder(), pieces) == (MESSAGES, None)


WRONG = {
    "flags of a client": Sockperf().encode(b"hello"),
    "no flags": HEADER.pack(*HEADER.unpack(Sockperf().encode(b"")[:14])[:1], 0, 14),
    "another sequence number": b"\xff" + _answer(Sockperf().encode(b"hello"))[1:],
    "a length under that of the header": _answer(Sockperf().encode(b""))[:10] + b"\0\0\0\x0d",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_header_that_is_no_answer_is_an_error_and_stays_one(name: str) -> None:
    decoder = Sockperf().decoder()
    error = failure(FramingError, decoder, WRONG[name])
    decoder.receive_data(_answer(Sockperf().encode(b"hello")))
    with pytest.raises(FramingError) as again:
        decoder.next_message()
    assert again.value is error


def test_what_is_too_long_or_cut_short_has_its_numbers() -> None:
    framing = Sockperf(max_message=4)
    with pytest.raises(MessageTooLarge) as refused:
        framing.encode(b"hello")
    assert (refused.value.size, refused.value.limit) == (5, 4)
    too_large = failure(MessageTooLarge, framing.decoder(), _answer(Sockperf().encode(b"hello")))
    assert (too_large.size, too_large.limit) == (5, 4)
    failure(IncompleteMessage, Sockperf().decoder(), _answer(Sockperf().encode(b"hello"))[:-1])


# `echokit load` with this framing.

BENCH = Bench(choose_generator("python"), Cores(None, None), warmup=0.02, seconds=0.1)
AT = Load(50, 1, framing=sockperf.FRAMING)


def _load(family: socket.AddressFamily, host: str, answer: Answer) -> dict[str, float]:
    with serving(family, host, answer) as port, sockperf.installed() as plugin:
        return load(BENCH, Endpoint(host, port), AT, None, plugin=plugin)


@pytest.mark.slow
def test_the_load_takes_the_answers_of_such_a_server(
    family: socket.AddressFamily, host: str
) -> None:
    seen: set[bytes] = set()

    def answer(data: bytes, _before: int) -> bytes:
        seen.add(data)
        return _answer(data)

    figures = _load(family, host, answer)
    assert figures["requests_per_s"] > 0
    assert {len(data) for data in seen} == {64}


@pytest.mark.slow
@pytest.mark.parametrize("at", [FLAGS, 14, 63])
def test_the_load_notices_a_byte_that_is_not_as_it_should_be(
    family: socket.AddressFamily, host: str, at: int
) -> None:
    def answer(data: bytes, _before: int) -> bytes:
        right = _answer(data)
        return right[:at] + bytes([right[at] ^ 1]) + right[at + 1 :]

    with pytest.raises(LoadFailedError):
        _load(family, host, answer)


def _latency() -> Latency:
    [case] = (case for case in LOAD_CHECKS if isinstance(case, Latency))
    return case


@pytest.mark.slow
@pytest.mark.usefixtures("family")
def test_both_clients_get_every_answer_of_sockperfs_own_server(host: str) -> None:
    try:
        sockperf.can_use(host)
    except UnavailableError as error:
        pytest.skip(str(error))
    results = Results()
    bench = Bench(BENCH.generator, choose_cores(), warmup=0.05, seconds=0.2)
    told: list[str] = []
    compare(_latency(), "family", host, 2, bench, results, told.append)
    assert [sample.failure for sample in results.samples] == [None] * 4
    assert {sample.peer for sample in results.samples} == {SOCKPERF, ONE}
    for sample in results.samples:
        figures = sample.figures
        assert 0 < figures["p50_us"] <= figures["p99_us"]
        # One after the other: their mean is no more than the time by their number, and half of
        # them cannot take more than twice the mean. (A whole microsecond is what ours rounds to.)
        assert figures["p50_us"] - 1 <= 2e6 / figures["requests_per_s"]


@pytest.mark.slow
def test_what_sockperfs_client_cannot_do_is_told_in_its_words(host: str) -> None:
    try:
        sockperf.can_use(host)
    except UnavailableError as error:
        pytest.skip(str(error))
    with start(sockperf.SERVER, sockperf.FRAMING, host, None) as server:
        pass
    with pytest.raises(LoadFailedError, match="refused"):
        sockperf.ping_pong(server, 64, 0.1, None)


def test_where_it_is_not_installed_the_case_is_skipped_with_a_word(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("PATH", "")
    results = Results()
    compare(_latency(), "IPv4", host, 1, BENCH, results, lambda _where: None)
    assert results.samples == []
    assert results.skipped == {"sockperf is not installed": ["load-sockperf IPv4"]}
