"""What was sent over one connection and has to come back: every byte of it, in its order."""

from collections import deque

from echokit.framing.base import Decoder, Framing
from echokit.loadgen.records import Records

__all__ = ["MISMATCH", "SURPLUS", "WELL", "Pending"]

# What came: a whole message or more as it was sent; something else; more than was sent.
WELL = "well"
MISMATCH = "mismatch"
SURPLUS = "surplus"


class Pending:
    """The exchanges under way on one connection. Times are nanoseconds.

    Args:
        framing: How messages stand on the wire.
        records: Where times and counts are written down.
        own_response: Whether response times are written down apart from service times.

    Attributes:
        waiting: Each exchange's message, when it was due, and when it was sent.
        take: Holds bytes that came at a time against what is to come: `WELL`, `MISMATCH`,
            `SURPLUS`, or None where no message is complete yet.
    """

    __slots__ = (
        "_decoder", "_matched", "_note_response", "_note_service", "_own_response", "_records",
        "take", "waiting",
    )  # fmt: skip

    def __init__(self, framing: Framing, records: Records, *, own_response: bool) -> None:
        self.waiting: deque[tuple[bytes, int, int]] = deque()
        self._records = records
        self._own_response = own_response
        # Bound once, as they are called for every exchange.
        self._note_service = records.service.append
        self._note_response = records.response.append
        # How much of the first has come back, where the stream has no messages.
        self._matched = 0
        self._decoder: Decoder | None = None
        if framing.transparent:
            self.take = self._take_stream
        else:
            self._decoder = framing.decoder()
            self.take = self._take_messages

    def _take_stream(self, data: bytes, now: int) -> str | None:
        waiting, records = self.waiting, self._records
        # Mostly one whole message comes: this saves 3% of all that an exchange costs.
        if waiting and data == waiting[0][0] and not self._matched:
            _, due, sent_at = waiting.popleft()
            self._note_service(now - sent_at)
            if self._own_response:
                self._note_response(now - due)
            records.bytes_received += len(data)
            return WELL
        at, end = 0, len(data)
        found: str | None = None
        while at < end:
            if not waiting:
                records.surplus_bytes += end - at
                found = SURPLUS
                break
            message, due, sent_at = waiting[0]
            matched = self._matched
            if not matched and data.startswith(message, at):
                at += len(message)
            else:
                size = min(len(message) - matched, end - at)
                if data[at : at + size] != message[matched : matched + size]:
                    found = MISMATCH
                    break
                at += size
                if matched + size < len(message):
                    self._matched = matched + size
                    break
                self._matched = 0
            waiting.popleft()
            self._note_service(now - sent_at)
            if self._own_response:
                self._note_response(now - due)
            records.bytes_received += len(message)
            found = WELL
        return found

    def _take_messages(self, data: bytes, now: int) -> str | None:
        decoder, waiting, records = self._decoder, self.waiting, self._records
        if decoder is None:
            return None
        found: str | None = None
        try:
            decoder.receive_data(data)
            while (message := decoder.next_message()) is not None:
                if not waiting:
                    records.surplus_bytes += len(message)
                    found = SURPLUS
                    break
                expected, due, sent_at = waiting[0]
                if message != expected:
                    found = MISMATCH
                    break
                waiting.popleft()
                self._note_service(now - sent_at)
                if self._own_response:
                    self._note_response(now - due)
                records.bytes_received += len(message)
                found = WELL
        except Exception:  # noqa: BLE001 - what a decoder refuses did not come back as it was sent
            found = MISMATCH
        return found
