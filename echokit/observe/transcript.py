"""The exercise's transcript: one line an event, in the words that it gave."""

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from echokit.net.address import Address
from echokit.net.handler import End, Ending
from echokit.observe.escape import escaped, printable
from echokit.observe.observer import Observer
from echokit.observe.rate_limit import RateLimits, with_left_out

if TYPE_CHECKING:
    from echokit.net.admission import Refusal
    from echokit.observe.counters import Counters

__all__ = ["Diagnostics", "Transcript"]

# How many ends of one kind are told of in a second; the others are counted.
ENDS_A_SECOND = 10


class Diagnostics(Observer):
    """Tells on `err` what went wrong, and nothing else: one line each, `echokit: ...`."""

    hears_clean_ends = False

    def __init__(self, err: TextIO | None = None) -> None:
        self._err = err if err is not None else sys.stderr
        self._words = RateLimits(ENDS_A_SECOND)

    def warned(self, text: str) -> None:
        """Tell it."""
        self._complain(text)

    def ended(self, peer: Address, end: End) -> None:
        """Tell why, if there was a reason other than the peer's leaving."""
        if end.error is not None and end.ending is not Ending.RESET:
            self._complain_of(end.ending, f"connection from {peer} closed: {end.why}")
        elif end.ending is Ending.CUT:
            self._complain_of(
                end.ending, f"connection from {peer} cut: it had not ended when the server did"
            )

    def refused(self, peer: Address, why: "Refusal", left_out: int) -> None:
        """Tell who was closed at once, and why."""
        text = f"connection from {peer} refused: {why.value.replace('-', ' ')}"
        self._complain(with_left_out(text, left_out))

    def tell_left_out(self, *, at_end: bool) -> None:
        """Tell how many ends were not told of, where no other has told so since."""
        for line in self._words.overdue(at_end=at_end):
            self._complain(line)

    def counted(self, counters: "Counters") -> None:
        """Tell the numbers."""
        for line in counters.in_words():
            self._complain(line)

    def draining(self, connections: int) -> None:
        """Say what is waited for."""
        if connections:
            some = "1 connection" if connections == 1 else f"{connections} connections"
            self._complain(f"stopping: finishing {some}; a second signal cuts them")

    def _complain_of(self, ending: Ending, text: str) -> None:
        """Tell of an end that a peer can cause as often as it likes: so often in a second."""
        left_out = self._words.ask(f"connections that ended as {ending.value}")
        if left_out is not None:
            self._complain(with_left_out(text, left_out))

    def _complain(self, text: str) -> None:
        # What cannot be told is lost: a full disk or a closed pipe under stderr must not let a
        # stranger's bad frame end the serving.
        with contextlib.suppress(OSError):
            self._err.write(f"echokit: {printable(text)}\n")
            self._err.flush()


class Transcript(Diagnostics):
    """Tells on `out` what the exercise's server and client print, flushed line by line."""

    hears_clean_ends = True

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        super().__init__(err)
        self._out = out if out is not None else sys.stdout

    def _say(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()

    def listening(self, host: str, addresses: Sequence[Address]) -> None:
        """The server's first line."""
        self._say(f"starting up on {printable(host)} port {addresses[0].port}")

    def waiting(self) -> None:
        """No connection is open."""
        self._say("waiting for a connection")

    def accepted(self, peer: Address) -> None:
        """A client has connected."""
        self._say(f"connection from {peer.host, peer.port}")

    def received(self, peer: Address, message: bytes) -> None:  # noqa: ARG002 - the words name no peer
        """A message has come and is sent back."""
        self._say(f'received "{escaped(message)}"\nsending data back to the client')

    def ended(self, peer: Address, end: End) -> None:
        """A client that left: on `out`. Anything else: on `err`."""
        if end.ending is Ending.CLEAN:
            self._say(f'received ""\nno more data from {peer.host, peer.port}')
        elif end.ending is Ending.RESET:
            why = "was reset" if _is_reset(end) else f"was lost: {end.why}"
            self._complain_of(end.ending, f"connection from {peer} {why}")
        else:
            super().ended(peer, end)

    def connecting(self, host: str, port: int) -> None:
        """The client's first line."""
        self._say(f"connecting to {printable(host)} port {port}")

    def sending(self, message: bytes) -> None:
        """A message is sent."""
        self._say(f'sending "{escaped(message)}"')

    def echoed(self, message: bytes) -> None:
        """A message has come back."""
        self._say(f'received "{escaped(message)}"')

    def closing(self) -> None:
        """The client's last line."""
        self._say("closing socket")


def _is_reset(end: End) -> bool:
    return isinstance(end.error, ConnectionResetError | BrokenPipeError)
