"""One `echokit load` as a whole: its target, its calibration, the run, and its document."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from echokit import __version__
from echokit.loadgen.audit import audit, calibrate
from echokit.loadgen.descriptors import allow_descriptors
from echokit.loadgen.measured import FamilyName
from echokit.loadgen.objectives import Objective, judge
from echokit.loadgen.own_server import OwnServer
from echokit.loadgen.result import Calibration, Result, Target
from echokit.loadgen.run import LoadRun, Progress
from echokit.loadgen.settings import LoadSettings
from echokit.loadgen.surroundings import environment, timestamp
from echokit.loadgen.targets import Targets, find_targets, own_families, own_targets
from echokit.net.address import Address, Endpoint

__all__ = ["Session", "Wish", "exit_code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for.

    Attributes:
        target: What to measure; None is echokit's own server.
        settings: How.
        objectives: What the figures should be.
        labels: What the document is to be known by.
    """

    target: Endpoint | None
    settings: LoadSettings
    objectives: Sequence[Objective] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


class Session:
    """One load, from its target to its document.

    Args:
        wish: What is asked for.
        tell: Is given what should be known before the end, a line each.
        progress: Is told between turns how far it is.

    Attributes:
        interrupted: Whether it was ended early.
        progress: As it was given.
    """

    def __init__(
        self,
        wish: Wish,
        *,
        tell: Callable[[str], None] = lambda _line: None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.wish = wish
        self.interrupted = False
        self._tell = tell
        self.progress = progress
        self._started_at = timestamp()
        self._began = time.monotonic()
        self._environment = environment()
        self._targets: Targets | None = None
        self._calibration: Calibration | None = None
        self._run: LoadRun | None = None

    @property
    def measuring(self) -> bool:
        """Whether the run has begun, so that there is, or will be, something to keep."""
        return self._run is not None

    def interrupt(self) -> None:
        """End it early, with what there is. From any thread, and from signal handlers."""
        self.interrupted = True
        # What has not begun by now sees the flag.
        if self._run is not None:
            self._run.interrupt()

    def run(self) -> None:
        """Do it all; `result` then has what it came to, also after an error.

        Raises:
            ResolveError: The target has no address (of the family asked for).
            DialError: It takes no connection.
            ListenError: The own server is to be measured over a family that this machine lacks.
            ConfigError: The framing cannot carry messages of such sizes, there are more connections
                than a process may have, or nothing falls due in the duration.
            NothingCameBack: Only a count would end it, and nothing comes back any more.
            ChildDied: A process that it had started died.
        """
        settings, target = self.wish.settings, self.wish.target
        if target is None:
            # The own server inherits the limit.
            families = own_families(settings)
            settings.check_due(families)
            allow_descriptors(settings.connections, families)
            with OwnServer(settings.framing) as server:
                self._targets = own_targets(server.addresses, settings)
                where = ", ".join(map(str, self._targets.addresses.values()))
                self._tell(f"no target given: measuring echokit's own server on {where}")
                self._calibrate(server.addresses)
                self._measure()
            return
        self._targets = find_targets(target.host, target.port, settings)
        settings.check_due(len(self._targets.addresses))
        for why in self._targets.failed.values():
            self._tell(f"{why}; measuring without it")
        allow_descriptors(settings.most_connections, len(self._targets.addresses))
        if settings.calibrate:
            with OwnServer(settings.framing) as server:
                self._calibrate(server.addresses)
        self._measure()

    def _calibrate(self, own: Mapping[FamilyName, Address]) -> None:
        if self.wish.settings.calibrate:
            self._calibration = calibrate(self.wish.settings, next(iter(own.values())))

    def _measure(self) -> None:
        if self._targets is not None:
            self._run = LoadRun(self.wish.settings, self._targets.addresses, self.progress)
            if self.interrupted:
                self._run.interrupt()
            self._run.measure()

    def result(self, error: str | None = None, code: int | None = None) -> Result:
        """The document of what there is.

        Args:
            error: Why it failed, if it did.
            code: The exit code that stands for that, or for what interrupted it; None lets
                `exit_code` say.
        """
        wish, run = self.wish, self._run
        rate = wish.settings.rate
        families = {} if run is None else {
            family: account.result([str(run.addresses[family])], rate, run.turn_s)
            for family, account in run.accounts.items()
        }  # fmt: skip
        turn_s = wish.settings.turn_seconds(1) if run is None else run.turn_s
        result = Result(
            echokit_version=__version__,
            status=self._status(error),
            error=error,
            exit_code=0,
            started_at=self._started_at,
            duration_s=time.monotonic() - self._began,
            target=self._target(),
            settings=wish.settings.document(turn_s),
            seed=wish.settings.seed,
            labels=dict(wish.labels),
            environment=self._environment,
            families=families,
            skipped={} if self._targets is None else self._targets.skipped,
            self_audit=audit(run, self._environment, self._calibration) if run else None,
            objectives=judge(wish.objectives, families),
            merged_from=[],
        )
        return result.model_copy(update={"exit_code": exit_code(result) if code is None else code})

    def _status(self, error: str | None) -> Literal["complete", "interrupted", "failed"]:
        if self.interrupted:
            return "interrupted"
        return "complete" if error is None else "failed"

    def _target(self) -> Target | None:
        if self.wish.target is not None:
            return Target(host=self.wish.target.host, port=self.wish.target.port, own_server=False)
        if self._targets is None:
            return None
        first = next(iter(self._targets.addresses.values()))
        return Target(host=first.host, port=first.port, own_server=True)


def exit_code(result: Result) -> int:
    """The exit code that the figures of `result` stand for.

    130 if it was interrupted, as nobody knows what would have come; 1 if nothing came back, or
    nothing of one family, or nothing of it any more as the run ended; 4 if an objective was missed;
    1 if some failed, and no objective says how many errors there may be; 1 if more came than was
    sent; else 0.
    That some were never sent, as the target could not keep the rate, is a finding of the self-audit
    and no failure. JUnit says the same of each family.
    """
    families = result.families.values()
    if result.status == "interrupted":
        return 130
    if not any(family.outcomes.ok for family in families):
        return 1
    if any(family.gone for family in families):
        return 1
    if not all(verdict.met for verdict in result.objectives):
        return 4
    allowed = any(verdict.figure == "errors" for verdict in result.objectives)
    surplus = any(family.surplus_bytes for family in families)
    failed = any(family.failed for family in families)
    return 1 if surplus or (failed and not allowed) else 0
