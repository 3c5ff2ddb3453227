"""What a run says of its own generator: whether the figures tell of the target, or of itself."""

from collections.abc import Mapping

from echokit.cores import usable_cores
from echokit.loadgen.account import Account
from echokit.loadgen.generator import Generator
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.measured import FAMILY_TITLES, FamilyName
from echokit.loadgen.payloads import Payloads
from echokit.loadgen.plan import Plan
from echokit.loadgen.result import Calibration, Environment, SelfAudit, WarmUp
from echokit.loadgen.run import LoadRun
from echokit.loadgen.settings import LoadSettings
from echokit.loadgen.shown import number, silence
from echokit.net.address import Address
from echokit.units import format_duration

__all__ = ["audit", "calibrate"]

_CALIBRATION_SECONDS = 0.2
# A generator that is this busy sends later than it would, and reads later what has come.
_SATURATED = 0.9
# A rate is reached if so much of it was.
_REACHED = 0.97
# Lateness that is a greater part of the response time than this is part of the figures.
_LATE = 0.5
# Where that is looked at, how it is told, from how many microseconds on (below, it is the system's
# ordinary wake-up), and of how many values.
_LATE_LEAST = {
    "p50_us": ("in the median", 200, 1),
    "p99_us": ("at p99", 1000, 100),
}
_TRUSTWORTHY = "the figures tell of the target"


def calibrate(settings: LoadSettings, address: Address) -> Calibration:
    """Measure one generator process against echokit's own server at `address`, closed loop."""
    plan = Plan(
        address=address,
        connections=settings.most_connections,
        in_flight=settings.in_flight,
        rate=None,
        churn=settings.churn,
        framing=settings.framing,
        chunk_size=settings.chunk_size,
        timeout=settings.timeout,
        connect_timeout=settings.connect_timeout,
    )
    payloads = Payloads(settings.seed, settings.size_min, settings.size_max, settings.framing)
    generator = Generator(plan, payloads)
    try:
        generator.open()
        # To warm it up.
        generator.turn(_CALIBRATION_SECONDS / 4)
        tally = generator.turn(_CALIBRATION_SECONDS)
    finally:
        generator.close()
    service = Histogram()
    service.add(tally.service)
    rate = tally.outcomes["ok"] / tally.seconds if tally.seconds else 0.0
    return Calibration(requests_per_s=rate, service=service.figure())


def audit(run: LoadRun, where: Environment, calibration: Calibration | None) -> SelfAudit:
    """What speaks against the figures of `run`."""
    settings = run.settings
    lateness = Histogram()
    for account in run.accounts.values():
        lateness.merge(account.lateness)
    findings = [
        *_nothing(run),
        *_saturated(run),
        *_rate_missed(settings, run.accounts),
        *_late(run.accounts, open_loop=settings.rate is not None),
        *_busy_machine(where),
    ]
    return SelfAudit(
        cpu_share=run.cpu_share,
        lateness_of="timer" if settings.rate is None else "sends",
        lateness=lateness.figure(),
        warm_up=WarmUp(requests=run.warm_up.total.requests, failed=run.warm_up.total.failed),
        calibration=calibration,
        trustworthy=not findings,
        verdict="; ".join(findings) or _TRUSTWORTHY,
        findings=findings,
    )


def _nothing(run: LoadRun) -> list[str]:
    found = []
    for family, account in run.accounts.items():
        silent_s = account.silence(run.turn_s)
        if run.interrupted and not account.total.requests + account.total.unsent:
            found.append(f"{FAMILY_TITLES[family]}: it had not had its turn yet")
        elif not account.response.count:
            found.append(f"{FAMILY_TITLES[family]}: nothing came back well: there are no times")
        elif silent_s:
            found.append(f"{FAMILY_TITLES[family]}: {silence(silent_s, account.total.seconds)}")
    return found


def _saturated(run: LoadRun) -> list[str]:
    if run.cpu_share < _SATURATED:
        return []
    more = (
        "use --workers" if run.settings.workers < usable_cores() else "spread it over more machines"
    )
    return [f"the generator was saturated: {run.cpu_share:.0%} CPU; {more}"]


def _rate_missed(settings: LoadSettings, accounts: Mapping[FamilyName, Account]) -> list[str]:
    found = []
    for family, account in accounts.items():
        total = account.total
        if settings.rate is None or not total.requests + total.unsent:
            continue
        rate = total.rate
        # One more may have been due a moment before, or after.
        if total.requests + 1 < settings.rate * total.sending_seconds * _REACHED:
            were = "was" if total.unsent == 1 else "were"
            unsent = f", {number(total.unsent)} {were} never sent" if total.unsent else ""
            found.append(
                f"{FAMILY_TITLES[family]}: the rate of {number(settings.rate)} a second was not"
                f" reached: {number(rate)} a second{unsent}"
            )
    if found and any(account.response.count for account in accounts.values()):
        found.append("response times grow for as long as a rate is not reached")
    return found


def _late(accounts: Mapping[FamilyName, Account], *, open_loop: bool) -> list[str]:
    what = "sends were late" if open_loop else "what was ready waited"
    found = []
    for family, account in accounts.items():
        late, response = account.lateness.figure(), account.response.figure()
        for name, (where, least, fewest) in _LATE_LEAST.items():
            lag, whole = getattr(late, name), getattr(response, name)
            enough = late.count >= fewest and lag is not None and lag >= least
            if enough and whole is not None and lag > whole * _LATE:
                found.append(
                    f"{FAMILY_TITLES[family]}: {what} by {format_duration(lag / 1e6)} {where}, of a"
                    f" response time of {format_duration(whole / 1e6)}"
                )
                break
    return found


def _busy_machine(where: Environment) -> list[str]:
    if where.load_average is None or where.cpu_count is None:
        return []
    load = where.load_average[0]
    if load <= where.cpu_count:
        return []
    return [f"the machine was busy before: load average {load:.1f} on {where.cpu_count} CPUs"]
