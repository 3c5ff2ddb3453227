"""The proof kit: does a framing keep the contract that everything above it relies on?

`check_framing(framing)` attacks one framing, built in or a plugin's, with Hypothesis and with
measurements, rule by rule, and raises `BrokenRule` for the first that it breaks, with the smallest
bytes that show it.
"""

import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

from echokit.errors import MessageTooLarge
from echokit.framing.base import Framing
from echokit.testing.subject import RULES, BrokenRule, Outcome, Subject, limit_of, shown

try:
    from hypothesis import HealthCheck, Phase, assume, given, settings
    from hypothesis import strategies as st
    from hypothesis.errors import Unsatisfiable
except ImportError as error:  # pragma: no cover - the test environment has it
    raise ImportError(
        "check_framing needs Hypothesis: install echokit with its extra 'testing'"
    ) from error

__all__ = ["RULES", "BrokenRule", "check_framing"]

# Bytes that no friend sends: any at all, and runs of those that stand at the ends of things.
_EDGES = st.sampled_from([b"\x00", b"\x01", b"\x7f", b"\x80", b"\xfe", b"\xff", b"\n", b"\r"])
_RUNS = st.builds(bytes.__mul__, _EDGES, st.integers(1, 12))
_HOSTILE = st.lists(_RUNS | st.binary(max_size=64), max_size=4).map(b"".join)

# What the memory and time rules work with: large enough to tell, small enough to be quick.
_BIG_MESSAGE = 8 << 20
_MEMORY_ALLOWED = 1 << 20
_FRAMES = 4000
_TIMES_MORE = 16
# Linear work takes about 16 times as long for 16 times as much, quadratic work 256 times.
_SLOWER_AT_MOST = 48


def check_framing(
    framing: Framing,
    *,
    messages: "st.SearchStrategy[bytes] | None" = None,
    max_examples: int = 100,
) -> None:
    """Prove that `framing` keeps the contract; see `RULES`.

    Args:
        framing: An instance, with the options that are to be proved.
        messages: What its messages look like, where not any bytes will do (records of one size,
            texts). What `encode` refuses with a `FramingError` is left out in any case.
        max_examples: How many examples Hypothesis tries for each rule.

    Raises:
        BrokenRule: It breaks one; the message shows the smallest bytes found.
        ValueError: `encode` refuses next to everything that was tried: `messages` is needed.
    """
    limit = limit_of(framing)
    most = 300 if limit is None else min(300, limit)
    if messages is None:
        messages = _any_messages(framing).filter(lambda message: len(message) <= most)
    proof = _Proof(framing, messages, max_examples)
    proof.check_independence()
    proof.check_round_trip()
    proof.check_splits()
    proof.check_sizes()
    proof.check_hostile()
    proof.check_end()
    proof.check_buffers()
    if limit is not None:
        proof.check_limit()
    proof.check_memory()
    proof.check_time()


class _Proof(Subject):
    """The rules, each a method, for one framing."""

    def __init__(
        self, framing: Framing, messages: "st.SearchStrategy[bytes]", max_examples: int
    ) -> None:
        super().__init__(framing)
        self._messages = messages
        self._settings = settings(
            max_examples=max_examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )

    # Hypothesis.

    def check_sizes(self) -> None:
        """Rules: encode, round trip: at the sizes where headers grow, whole and cut."""
        most = limit_of(self._framing)
        for size in (0, 1, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 70_000):
            if most is not None and size > most:
                continue
            # Bytes that differ by their place show what is out of order.
            varied = (bytes(range(35, 124)) * (size // 89 + 1))[:size]
            wire = self._encoded(self._framing, varied)
            if wire is None:
                continue
            for cuts in ((), (1,), (len(wire) // 2,), (1, len(wire) - 1)):
                places = sorted({0, len(wire), *cuts})
                pieces = [wire[a:b] for a, b in itertools.pairwise(places)]
                found = self._decode(pieces, "round trip")
                if found.error is not None or not self._same(found.messages, [varied]):
                    what = f"sent {shown(varied)}, as {shown(pieces)}, came {found}"
                    raise BrokenRule(self._framing, "round trip", what)

    def check_independence(self) -> None:
        """Rule: independent: two connections, fed in turns."""
        message = self._encodable(self._framing, 8) or self._encodable(self._framing, 1)
        if message is None:
            return
        wire = self._framing.encode(message)
        cut = len(wire) // 2
        one, other = self._framing.decoder(), self._framing.decoder()
        first = self._feed(one, [wire[:cut]], "independent")
        second = self._feed(other, [wire], "independent")
        rest = self._feed(one, [wire[cut:]], "independent")
        for found in (second.messages, first.messages + rest.messages):
            if not self._same(found, [message]):
                what = f"{shown(wire)} on two connections in turns came as {shown(found)} on one"
                raise BrokenRule(self._framing, "independent", what)

    def check_round_trip(self) -> None:
        """Rule: round trip."""

        def rule(messages: list[bytes]) -> None:
            wire = self._wire(messages)
            found = self._decode([wire], "round trip")
            if found.error is not None or not self._same(found.messages, messages):
                what = f"sent {shown(messages)}, on the wire {shown(wire)}, came {found}"
                raise BrokenRule(self._framing, "round trip", what)

        self._attack(rule, st.lists(self._messages, max_size=4))

    def check_splits(self) -> None:
        """Rules: any split, byte by byte; of good streams, and of bad ones."""

        def rule(wire: bytes, cuts: list[int]) -> None:
            whole = self._decode([wire], "hostile bytes")
            single = [wire[at : at + 1] for at in range(len(wire))]
            places = sorted({cut % (len(wire) + 1) for cut in cuts} | {0, len(wire)})
            pieces = [wire[a:b] for a, b in itertools.pairwise(places)]
            for name, way in (("byte by byte", single), ("any split", pieces)):
                found = self._decode(way, "hostile bytes")
                if not self._alike(found, whole):
                    what = f"{shown(wire)} whole: {whole}; as {shown(way)}: {found}"
                    raise BrokenRule(self._framing, name, what)

        cuts = st.lists(st.integers(0, 1 << 16), max_size=4)
        self._attack(rule, self._good_wires(), cuts)
        self._attack(rule, _HOSTILE, cuts)
        self._attack(rule, st.builds(bytes.__add__, self._good_wires(), _HOSTILE), cuts)

    def check_hostile(self) -> None:
        """Rules: hostile bytes, stays failed."""

        def rule(wire: bytes, more: bytes) -> None:
            decoder = self._framing.decoder()
            found = self._feed(decoder, [wire], "hostile bytes")
            if found.error is None:
                self._eof(decoder, wire)
                return
            again = self._feed(decoder, [more] if more else [], "stays failed")
            if type(again.error) is not type(found.error) or again.messages:
                what = f"{shown(wire)}: {found}; and after {shown(more)} more: {again}"
                raise BrokenRule(self._framing, "stays failed", what)

        damaged = st.builds(_damaged, self._good_wires(), st.integers(0, 300), _HOSTILE)
        self._attack(rule, _HOSTILE | damaged, st.binary(max_size=8))

    def check_end(self) -> None:
        """Rule: end of stream, at every place where a stream can be cut."""

        def rule(messages: list[bytes]) -> None:
            wires = [self._wire([message]) for message in messages]
            ends = {0, *itertools.accumulate(len(wire) for wire in wires)}
            wire = b"".join(wires)
            for cut in range(len(wire) + 1):
                decoder = self._framing.decoder()
                self._feed(decoder, [wire[:cut]] if cut else [], "end of stream")
                error = self._eof(decoder, wire[:cut])
                clean = cut in ends or self._framing.transparent
                if clean != (error is None):
                    told = "no error" if error is None else f"{type(error).__name__}: {error}"
                    where = "between two messages" if clean else "inside a message"
                    what = f"{shown(wire[:cut])} ends {where}; receive_eof raised {told}"
                    raise BrokenRule(self._framing, "end of stream", what)

        self._attack(rule, st.lists(self._messages, min_size=1, max_size=3))

    def check_buffers(self) -> None:
        """Rule: own buffers: what was fed may be changed and resized afterwards."""

        def rule(messages: list[bytes], cut: int) -> None:
            wire = self._wire(messages)
            cut %= len(wire) + 1
            decoder = self._framing.decoder()
            found: list[bytes] = []
            for piece in (wire[:cut], wire[cut:]):
                buffer = bytearray(piece)
                if not buffer:
                    continue
                fed: Any = buffer
                outcome = self._feed(decoder, [fed], "own buffers")
                found.extend(outcome.messages)
                try:
                    buffer[:] = bytes(len(buffer))
                    buffer.clear()
                except BufferError as error:
                    what = f"fed {shown(piece)}, the decoder holds on to its buffer: {error}"
                    raise BrokenRule(self._framing, "own buffers", what) from error
            if not self._same(found, messages):
                what = f"fed {shown(wire)}, each buffer zeroed after it: {shown(found)}"
                raise BrokenRule(self._framing, "own buffers", what)

        nonempty = st.lists(self._messages, min_size=1, max_size=3)
        self._attack(rule, nonempty, st.integers(0, 1 << 16))

    # Measured.

    def check_limit(self) -> None:
        """Rule: limit: exactly it passes, one more does not."""
        limited = self._with_limit(64) or self._framing
        limit = limit_of(limited)
        wider = None if limit is None else self._with_limit(limit + 64)
        if limit is None or limit > _BIG_MESSAGE:
            return
        exact = self._encodable(limited, limit)
        if exact is None:
            if wider is None or self._encodable(wider, limit) is None:
                return
            what = f"encode refused {limit} bytes under a limit of {limit}"
            raise BrokenRule(self._framing, "limit", what)
        over = exact + exact[-1:] if exact else b"x"
        try:
            wire = limited.encode(over)
        except MessageTooLarge:
            pass
        except Exception as error:
            what = f"encode refused {len(over)} bytes over a limit of {limit} with {error!r}"
            raise BrokenRule(self._framing, "limit", what) from error
        else:
            what = f"encode made {shown(wire)} of {len(over)} bytes under a limit of {limit}"
            raise BrokenRule(self._framing, "limit", what)
        wires = [(exact, limited.encode(exact))]
        if wider is not None and (wire_over := self._encoded(wider, over)) is not None:
            wires.append((over, wire_over))
        for message, wire in wires:
            found = self._feed(limited.decoder(), [wire], "limit")
            right = found.messages == [message] if message is exact else _too_large(found)
            if not right:
                what = f"{len(message)} bytes under a limit of {limit} came as {found}"
                raise BrokenRule(self._framing, "limit", what)

    def check_memory(self) -> None:
        """Rule: memory: the beginning of a large message costs next to nothing."""
        large = self._with_limit(_BIG_MESSAGE) or self._framing
        message = self._encodable(large, min(_BIG_MESSAGE, limit_of(large) or _BIG_MESSAGE))
        if message is None or len(message) <= _MEMORY_ALLOWED:
            return
        begun = large.encode(message)[:64]
        decoder = large.decoder()
        tracing = tracemalloc.is_tracing()
        if not tracing:
            tracemalloc.start()
        try:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            self._feed(decoder, [begun], "memory")
            taken = tracemalloc.get_traced_memory()[1] - before
        finally:
            if not tracing:
                tracemalloc.stop()
        if taken > _MEMORY_ALLOWED:
            what = f"{taken} bytes taken on the first 64 bytes of a message of {len(message)}"
            raise BrokenRule(self._framing, "memory", what)

    def check_time(self) -> None:
        """Rule: linear time: many small messages at once, and a large one in small pieces."""
        small = self._encodable(self._framing, 4)
        if small is not None:
            wire = self._framing.encode(small)
            few, many = wire * _FRAMES, wire * (_FRAMES * _TIMES_MORE)
            self._compare_times("small messages in one piece", [few], [many])
        size = min(512 << 10, limit_of(self._framing) or 512 << 10)
        large = self._encodable(self._framing, size)
        part = None if large is None else self._encodable(self._framing, size // _TIMES_MORE)
        if large is not None and part is not None and size >= 1 << 16:
            short, long = self._framing.encode(part), self._framing.encode(large)
            what = "a large message in pieces of 64 bytes"
            self._compare_times(what, _chopped(short), _chopped(long))

    def _compare_times(self, what: str, few: list[bytes], many: list[bytes]) -> None:
        """Raise if `many`, 16 times as many bytes as `few`, take far more than 16 times as long."""
        short = min(self._seconds(few) for _ in range(3))
        long = self._seconds(many)
        if long > short * _SLOWER_AT_MOST:
            # A second look, so that a busy machine is not taken for slow code.
            long = min(long, self._seconds(many))
        if long <= short * _SLOWER_AT_MOST:
            return
        what = (
            f"{what}: {sum(map(len, few))} bytes took {short * 1e3:.1f} ms, "
            f"{sum(map(len, many))} bytes {long * 1e3:.1f} ms"
        )
        raise BrokenRule(self._framing, "linear time", what)

    def _seconds(self, pieces: list[bytes]) -> float:
        began = time.process_time()
        self._decode(pieces, "linear time")
        return time.process_time() - began

    # What the rules are made of.

    def _attack(self, rule: Callable[..., None], *strategies: "st.SearchStrategy[Any]") -> None:
        """Run `rule` on what the strategies find; raise the smallest failure."""
        try:
            self._settings(given(*strategies)(rule))()
        except BrokenRule as broken:
            raise BrokenRule(broken.framing, broken.rule, broken.shown) from broken.__cause__
        except Unsatisfiable:
            raise ValueError(
                f"{type(self._framing).__name__}.encode refused next to every message that was "
                "tried: say with `messages=` what its messages look like"
            ) from None

    def _good_wires(self) -> "st.SearchStrategy[bytes]":
        return st.lists(self._messages, max_size=4).map(self._wire_of_good)

    def _wire(self, messages: Iterable[bytes]) -> bytes:
        """The messages encoded; an example with one that the framing cannot carry is dropped."""
        wires = [self._encoded(self._framing, message) for message in messages]
        assume(None not in wires)
        return b"".join(wire for wire in wires if wire is not None)

    def _wire_of_good(self, messages: list[bytes]) -> bytes:
        """Those of the messages encoded that the framing can carry."""
        wires = (self._encoded(self._framing, message) for message in messages)
        return b"".join(wire for wire in wires if wire is not None)


def _any_messages(framing: Framing) -> "st.SearchStrategy[bytes]":
    """Any bytes; and some that are made of what the framing itself puts on the wire."""
    own = [b"\r\n", b"\n", b"\0"]
    for message in (b"", b"x"):
        try:
            wire = framing.encode(message)
        except Exception:  # noqa: BLE001, S112 - `check_sizes` tells of it
            continue
        if type(wire) is bytes and len(wire) <= 64:  # noqa: PLR2004 - a header, no record
            own.append(wire)
    pieces = st.sampled_from(own) | st.binary(max_size=8)
    return st.binary(max_size=300) | st.lists(pieces, max_size=4).map(b"".join)


def _too_large(found: Outcome) -> bool:
    return not found.messages and isinstance(found.error, MessageTooLarge)


def _chopped(wire: bytes) -> list[bytes]:
    return [wire[at : at + 64] for at in range(0, len(wire), 64)]


def _damaged(wire: bytes, at: int, patch: bytes) -> bytes:
    at %= len(wire) + 1
    return wire[:at] + patch + wire[at + len(patch) :]
