"""Since when nothing has come back well, in the turn that runs."""

import time

from echokit.loadgen.records import Records

__all__ = ["Hearing"]


class Hearing:
    """Looks now and then whether something has come back, as a time for each would cost too much.

    Args:
        records: Where that is written down.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        # When something had last come back, or nothing was asked for; and what there was then.
        self._heard = 0.0
        self._ok = self._failed = 0
        # What had come back well when no exchange could begin any more.
        self._ok_in_time: int | None = None

    def begin(self) -> None:
        """A turn begins; nothing is in flight."""
        self._heard = time.monotonic()
        # Those that found no connection before it are asked for in it.
        self._ok = self._failed = 0
        self._ok_in_time = None

    def listen(self, *, asked: bool) -> float:
        """Look; `asked`: something should begin, and has not. How long it has been silent."""
        now = time.monotonic()
        records = self._records
        # Begun since, and neither here nor known to be lost before.
        wanting = records.requests - records.ok > self._failed
        if records.ok > self._ok or not (asked or wanting):
            self._heard = now
            self._ok, self._failed = records.ok, records.failures.total()
        return now - self._heard

    def sending_ended(self) -> None:
        """Nothing begins any more in this turn."""
        self._ok_in_time = self._records.ok

    def silent_seconds(self, *, asked: bool) -> float:
        """How long it has been silent, now that the turn has ended.

        Where something came back of what was in flight as the sending ended, it is not the target
        that is silent, but one exchange that has had the turn wait for it.
        """
        silent = self.listen(asked=asked)
        if self._ok_in_time is not None and self._records.ok > self._ok_in_time:
            return 0.0
        return silent
