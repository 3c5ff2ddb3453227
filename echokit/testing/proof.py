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
    from hypothesis import HealthCheck, Phase, assume, given, settings
    from hypothesis import strategies as st
    from hypothesis.errors import Unsatisfiable
except ImportError as error:  # pragma: no cover - the test environment has it
    raise ImportError(
        "check_framing needs Hypothesis: install echokit with its extra 'testing'"
    ) from error

__all__ = ["RULES", "BrokenRule", "check_framing"]

RULES: Final = {
    "encode": "encode carries a message, or refuses it with a FramingError, and no other error",
    "independent": "decoders of one framing share nothing, whatever order they are fed in",
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

# How much of each piece is kept to be shown.
_REMEMBERED = 4096

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
        messages: What its messages look like, where not any bytes will do (records of one size,
            texts). What `encode` refuses with a `FramingError` is left out in any case.
        max_examples: How many examples Hypothesis tries for each rule.

    Raises:
        BrokenRule: It breaks one; the message shows the smallest bytes found.
        ValueError: `encode` refuses next to everything that was tried: `messages` is needed.
    """
    limit = _limit_of(framing)
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
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )

    # Hypothesis.

    def check_sizes(self) -> None:
        """Rules: encode, round trip: at the sizes where headers grow, whole and cut."""
        most = _limit_of(self._framing)
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
                    shown = f"sent {_shown(varied)}, as {_shown(pieces)}, came {found}"
                    raise BrokenRule(self._framing, "round trip", shown)

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
                shown = f"{_shown(wire)} on two connections in turns came as {_shown(found)} on one"
                raise BrokenRule(self._framing, "independent", shown)

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
                fed: Any = buffer
                outcome = self._feed(decoder, [fed], "own buffers")
                found.extend(outcome.messages)
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
        limited = self._with_limit(64) or self._framing
        limit = _limit_of(limited)
        wider = None if limit is None else self._with_limit(limit + 64)
        if limit is None or limit > _BIG_MESSAGE:
            return
        exact = self._encodable(limited, limit)
        if exact is None:
            if wider is None or self._encodable(wider, limit) is None:
                return
            shown = f"encode refused {limit} bytes under a limit of {limit}"
            raise BrokenRule(self._framing, "limit", shown)
        over = exact + exact[-1:] if exact else b"x"
        try:
            wire = limited.encode(over)
        except MessageTooLarge:
            pass
        except Exception as error:
            shown = f"encode refused {len(over)} bytes over a limit of {limit} with {error!r}"
            raise BrokenRule(self._framing, "limit", shown) from error
        else:
            shown = f"encode made {_shown(wire)} of {len(over)} bytes under a limit of {limit}"
            raise BrokenRule(self._framing, "limit", shown)
        wires = [(exact, limited.encode(exact))]
        if wider is not None and (wire_over := self._encoded(wider, over)) is not None:
            wires.append((over, wire_over))
        for message, wire in wires:
            found = self._feed(limited.decoder(), [wire], "limit")
            right = found.messages == [message] if message is exact else _too_large(found)
            if not right:
                shown = f"{len(message)} bytes under a limit of {limit} came as {found}"
                raise BrokenRule(self._framing, "limit", shown)

    def check_memory(self) -> None:
        """Rule: memory: the beginning of a large message costs next to nothing."""
        large = self._with_limit(_BIG_MESSAGE) or self._framing
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

    def _encoded(self, framing: Framing, message: bytes) -> bytes | None:
        """`message` encoded, or None where the framing cannot carry it."""
        try:
            wire = framing.encode(message)
        except FramingError:
            return None
        except Exception as error:
            shown = f"encoding {_shown(message)} raised {type(error).__name__}: {error}"
            raise BrokenRule(framing, "encode", shown) from error
        if type(wire) is not bytes:
            shown = f"encoding {_shown(message)} gave {type(wire).__name__}, not bytes"
            raise BrokenRule(framing, "encode", shown)
        return wire

    def _decode(self, pieces: Iterable[bytes], rule: str) -> _Outcome:
        return self._feed(self._framing.decoder(), pieces, rule)

    def _feed(self, decoder: Decoder, pieces: Iterable[bytes], rule: str) -> _Outcome:
        """What comes of feeding the pieces; any error but next_message's own breaks `rule`."""
        messages: list[bytes] = []
        fed: list[bytes] = []
        size = 0
        feeding = False
        try:
            for piece in pieces:
                if not piece:
                    continue
                fed.append(bytes(piece[:_REMEMBERED]))
                size += len(piece)
                feeding = True
                decoder.receive_data(piece)
                feeding = False
                self._drain(decoder, messages, size, fed)
            self._drain(decoder, messages, size, fed)
        except BrokenRule:
            raise
        except Exception as error:
            if isinstance(error, FramingError) and not feeding:
                return _Outcome(messages, error)
            where = "receive_data" if feeding else "next_message"
            shown = f"{where} raised {type(error).__name__}: {error}; fed {_shown(b''.join(fed))}"
            if isinstance(error, FramingError):
                rule = "hostile bytes"
            raise BrokenRule(self._framing, rule, shown) from error
        return _Outcome(messages, None)

    def _drain(self, decoder: Decoder, messages: list[bytes], size: int, fed: list[bytes]) -> None:
        """Take every message that there is; there cannot be many more than bytes."""
        while (message := decoder.next_message()) is not None:
            messages.append(message)
            if type(message) is not bytes:
                shown = f"next_message gave {type(message).__name__}, not bytes"
                raise BrokenRule(self._framing, "round trip", shown)
            if len(messages) > size + 16:
                shown = f"messages without end come of {_shown(b''.join(fed))}"
                raise BrokenRule(self._framing, "hostile bytes", shown)

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
        same_end = (one.error is None) == (other.error is None)
        return same_end and self._same(one.messages, other.messages)

    def _with_limit(self, limit: int) -> Framing | None:
        """The framing with another limit; None where its options do not let it be."""
        if "max_message" not in type(self._framing).model_fields:
            return None
        changed = self._framing.model_dump() | {"max_message": limit}
        try:
            return type(self._framing).model_validate(changed)
        except ValueError:
            return None

    def _encodable(self, framing: Framing, size: int) -> bytes | None:
        """A message of `size` bytes that `framing` can carry, or None."""
        fills = (b"x", b"\x00", b"1", b" ")
        found = (fill * size for fill in fills if self._encoded(framing, fill * size) is not None)
        return next(found, None)


def _any_messages(framing: Framing) -> "st.SearchStrategy[bytes]":
    """Any bytes; and some that are made of what the framing itself puts on the wire."""
    own = [b"\r\n", b"\n", b"\0"]
    for message in (b"", b"x"):
        try:
            wire = framing.encode(message)
        except Exception:  # noqa: BLE001, S112 - `check_sizes` tells of it
            continue
        if len(wire) <= 64:  # noqa: PLR2004 - a header, no record
            own.append(wire)
    pieces = st.sampled_from(own) | st.binary(max_size=8)
    return st.binary(max_size=300) | st.lists(pieces, max_size=4).map(b"".join)


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
