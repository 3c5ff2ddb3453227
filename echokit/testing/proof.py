"""The proof kit: does a framing keep the contract that everything above it relies on?

`check_framing(framing)` attacks one framing, built in or a plugin's, with Hypothesis and with
measurements, rule by rule, and raises `BrokenRule` for the first that it breaks, with the smallest
bytes that show it.
"""

import itertools
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any, Final

from echokit.errors import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.base import Decoder, Framing

try:
    from hypothesis import HealthCheck, assume, given, settings
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover - the test environment has it
    raise ImportError(
        "check_framing needs Hypothesis: install echokit with its extra 'testing'"
    ) from error

__all__ = ["RULES", "BrokenRule", "check_framing"]

RULES: Final = {
    "encode": "encode carries a message, or refuses it with a FramingError, and no other error",
    "round trip": "what was encoded is decoded again, message by message",
    "any split": "however the wire is cut into pieces, the same messages come of it",
    "byte by byte": "fed one byte at a time, the same messages come of it",
    "hostile bytes": "any bytes give messages or a FramingError, and no other error",
    "stays failed": "after an error a decoder goes on raising that error, whatever it is fed",
    "limit": "a message over max_message is refused, by encode and by the decoder",
    "memory": "no memory is taken for a message before its bytes have come",
    "end of stream": "a stream cut inside a message ends in IncompleteMessage, and no other does",
    "own buffers": "a decoder keeps no reference to a buffer that it was fed",
    "linear time": "decoding takes time in proportion to the bytes, however they come",
}

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


class BrokenRule(AssertionError):
    """A framing breaks a rule of the contract.

    Attributes:
        framing: The framing.
        rule: The rule's name, a key of `RULES`.
        shown: What shows it.
    """

    def __init__(self, framing: Framing, rule: str, shown: str) -> None:
        self.framing = framing
        self.rule = rule
        self.shown = shown
        super().__init__(
            f"{type(framing).__name__} ({framing.type!r}) breaks the rule {rule!r}: "
            f"{RULES[rule]}.\n{shown}"
        )


def check_framing(
    framing: Framing,
    *,
    messages: "st.SearchStrategy[bytes] | None" = None,
    max_examples: int = 100,
) -> None:
    """Prove that `framing` keeps the contract; see `RULES`.

    Args:
        framing: An instance, with the options that are to be proved.
        messages: What its messages look like, where not any bytes will do. What `encode` refuses
            with a `FramingError` is left out in any case.
        max_examples: How many examples Hypothesis tries for each rule.

    Raises:
        BrokenRule: It breaks one; the message shows the smallest bytes found.
    """
    limit = getattr(framing, "max_message", None)
    if messages is None:
        messages = st.binary(max_size=min(300, limit if limit is not None else 300))
    proof = _Proof(framing, messages, max_examples)
    proof.check_encode()
    proof.check_round_trip()
    proof.check_splits()
    proof.check_hostile()
    proof.check_end()
    proof.check_buffers()
    if limit is not None:
        proof.check_limit()
    proof.check_memory()
    proof.check_time()


class _Outcome:
    """What a decoder made of a stream: its messages, and the error if there was one."""

    def __init__(self, messages: list[bytes], error: FramingError | None) -> None:
        self.messages = messages
        self.error = error

    def __str__(self) -> str:
        error = f", then {type(self.error).__name__}: {self.error}" if self.error else ""
        return f"{_shown(self.messages)}{error}"


class _Proof:
    """The rules, each a method, for one framing."""

    def __init__(
        self, framing: Framing, messages: "st.SearchStrategy[bytes]", max_examples: int
    ) -> None:
        self._framing = framing
        self._messages = messages
        self._settings = settings(
            max_examples=max_examples,
            deadline=None,
            database=None,
            derandomize=True,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )

    # Hypothesis.

    def check_encode(self) -> None:
        """Rule: encode, of sizes at which headers grow."""
        most = _limit_of(self._framing)
        for size in (0, 1, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 70_000):
            if most is None or size <= most:
                self._encoded(self._framing, b"x" * size)

    def check_round_trip(self) -> None:
        """Rule: round trip."""

        def rule(messages: list[bytes]) -> None:
            wire = self._wire(messages)
            found = self._decode([wire], "round trip")
            if found.error is not None or not self._same(found.messages, messages):
                shown = f"sent {_shown(messages)}, on the wire {_shown(wire)}, came {found}"
                raise BrokenRule(self._framing, "round trip", shown)

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
                    shown = f"{_shown(wire)} whole: {whole}; as {_shown(way)}: {found}"
                    raise BrokenRule(self._framing, name, shown)

        cuts = st.lists(st.integers(0, 1 << 16), max_size=4)
        self._attack(rule, self._good_wires(), cuts)
        self._attack(rule, _HOSTILE, cuts)

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
                shown = f"{_shown(wire)}: {found}; and after {_shown(more)} more: {again}"
                raise BrokenRule(self._framing, "stays failed", shown)

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
                    shown = f"{_shown(wire[:cut])} ends {where}; receive_eof raised {told}"
                    raise BrokenRule(self._framing, "end of stream", shown)

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
                decoder.receive_data(buffer)  # type: ignore[arg-type]  # a hostile caller
                found.extend(self._drained(decoder))
                try:
                    buffer[:] = bytes(len(buffer))
                    buffer.clear()
                except BufferError as error:
                    shown = f"fed {_shown(piece)}, the decoder holds on to its buffer: {error}"
                    raise BrokenRule(self._framing, "own buffers", shown) from error
            if not self._same(found, messages):
                shown = f"fed {_shown(wire)}, each buffer zeroed after it: {_shown(found)}"
                raise BrokenRule(self._framing, "own buffers", shown)

        nonempty = st.lists(self._messages, min_size=1, max_size=3)
        self._attack(rule, nonempty, st.integers(0, 1 << 16))

    # Measured.

    def check_limit(self) -> None:
        """Rule: limit: exactly it passes, one more does not."""
        limited = self._with_limit(64)
        wider = self._with_limit(4096)
        exact = self._encodable(wider, 64)
        over = self._encodable(wider, 65)
        if exact is None or over is None:
            return
        try:
            limited.encode(exact)
        except FramingError as error:
            shown = f"encode refused 64 bytes under a limit of 64: {error}"
            raise BrokenRule(self._framing, "limit", shown) from error
        try:
            wire = limited.encode(over)
        except MessageTooLarge:
            pass
        except FramingError as error:
            shown = f"encode refused 65 bytes over a limit of 64, but with {error!r}"
            raise BrokenRule(self._framing, "limit", shown) from error
        else:
            shown = f"encode made {_shown(wire)} of 65 bytes under a limit of 64"
            raise BrokenRule(self._framing, "limit", shown)
        for message, passes in ((exact, True), (over, False)):
            decoder = limited.decoder()
            found = self._feed(decoder, [wider.encode(message)], "limit")
            right = found.messages == [message] if passes else _too_large(found)
            if not right:
                shown = f"{len(message)} bytes under a limit of 64 came as {found}"
                raise BrokenRule(self._framing, "limit", shown)

    def check_memory(self) -> None:
        """Rule: memory: the beginning of a large message costs next to nothing."""
        large = self._with_limit(_BIG_MESSAGE)
        message = self._encodable(large, min(_BIG_MESSAGE, _limit_of(large) or _BIG_MESSAGE))
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
            shown = f"{taken} bytes taken on the first 64 bytes of a message of {len(message)}"
            raise BrokenRule(self._framing, "memory", shown)

    def check_time(self) -> None:
        """Rule: linear time: many small messages at once, and a large one in small pieces."""
        small = self._encodable(self._framing, 4)
        if small is not None:
            wire = self._framing.encode(small)
            few, many = wire * _FRAMES, wire * (_FRAMES * _TIMES_MORE)
            self._compare_times("small messages in one piece", [few], [many])
        size = min(512 << 10, _limit_of(self._framing) or 512 << 10)
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
        shown = (
            f"{what}: {sum(map(len, few))} bytes took {short * 1e3:.1f} ms, "
            f"{sum(map(len, many))} bytes {long * 1e3:.1f} ms"
        )
        raise BrokenRule(self._framing, "linear time", shown)

    def _seconds(self, pieces: list[bytes]) -> float:
        decoder = self._framing.decoder()
        began = time.process_time()
        for piece in pieces:
            decoder.receive_data(piece)
            while decoder.next_message() is not None:
                pass
        return time.process_time() - began

    # What the rules are made of.

    def _attack(self, rule: Callable[..., None], *strategies: "st.SearchStrategy[Any]") -> None:
        """Run `rule` on what the strategies find; raise the smallest failure."""
        try:
            self._settings(given(*strategies)(rule))()
        except BrokenRule as broken:
            raise BrokenRule(broken.framing, broken.rule, broken.shown) from broken.__cause__

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

    def _encoded(self, framing: Framing, message: bytes) -> bytes | None:
        """`message` encoded, or None where the framing cannot carry it."""
        try:
            return framing.encode(message)
        except FramingError:
            return None
        except Exception as error:
            shown = f"encoding {_shown(message)} raised {type(error).__name__}: {error}"
            raise BrokenRule(framing, "encode", shown) from error

    def _decode(self, pieces: Iterable[bytes], rule: str) -> _Outcome:
        return self._feed(self._framing.decoder(), pieces, rule)

    def _feed(self, decoder: Decoder, pieces: Iterable[bytes], rule: str) -> _Outcome:
        """What comes of feeding the pieces; any error but a FramingError breaks `rule`."""
        messages: list[bytes] = []
        fed = b""
        try:
            for piece in pieces:
                if piece:
                    fed += piece
                    decoder.receive_data(piece)
                    messages.extend(self._drained(decoder))
            messages.extend(self._drained(decoder))
        except FramingError as error:
            return _Outcome(messages, error)
        except Exception as error:
            shown = f"{_shown(fed)} raised {type(error).__name__}: {error}"
            raise BrokenRule(self._framing, rule, shown) from error
        return _Outcome(messages, None)

    def _drained(self, decoder: Decoder) -> Iterable[bytes]:
        while (message := decoder.next_message()) is not None:
            yield message

    def _eof(self, decoder: Decoder, fed: bytes) -> FramingError | None:
        """The IncompleteMessage that the end of the stream raises, if it does."""
        try:
            decoder.receive_eof()
        except IncompleteMessage as error:
            return error
        except Exception as error:
            shown = f"receive_eof after {_shown(fed)} raised {type(error).__name__}: {error}"
            raise BrokenRule(self._framing, "end of stream", shown) from error
        return None

    def _same(self, found: list[bytes], sent: list[bytes]) -> bool:
        """Whether these are the messages; where a chunk is a message, whether it is the stream."""
        if self._framing.transparent:
            return b"".join(found) == b"".join(sent)
        return found == sent

    def _alike(self, one: _Outcome, other: _Outcome) -> bool:
        same_end = type(one.error) is type(other.error)
        return same_end and self._same(one.messages, other.messages)

    def _with_limit(self, limit: int) -> Framing:
        """The framing with another limit, as far as its other options let it be."""
        if _limit_of(self._framing) is None:
            return self._framing
        changed = self._framing.model_dump() | {"max_message": limit}
        try:
            return type(self._framing).model_validate(changed)
        except ValueError:
            return self._framing

    def _encodable(self, framing: Framing, size: int) -> bytes | None:
        """A message of `size` bytes that `framing` can carry, or None."""
        fills = (b"x", b"\x00", b"1", b" ")
        found = (fill * size for fill in fills if self._encoded(framing, fill * size) is not None)
        return next(found, None)


def _limit_of(framing: Framing) -> int | None:
    limit: int | None = getattr(framing, "max_message", None)
    return limit


def _too_large(found: _Outcome) -> bool:
    return not found.messages and isinstance(found.error, MessageTooLarge)


def _chopped(wire: bytes) -> list[bytes]:
    return [wire[at : at + 64] for at in range(0, len(wire), 64)]


def _damaged(wire: bytes, at: int, patch: bytes) -> bytes:
    at %= len(wire) + 1
    return wire[:at] + patch + wire[at + len(patch) :]


def _shown(what: bytes | list[bytes]) -> str:
    """Bytes as Python writes them; the middle of long ones left out."""
    if isinstance(what, list):
        return f"[{', '.join(_shown(item) for item in what)}]"
    if len(what) <= 80:  # noqa: PLR2004 - what fits a line
        return repr(what)
    return f"{what[:32]!r}...{what[-16:]!r} ({len(what)} bytes)"
