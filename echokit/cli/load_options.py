"""What the options of `echokit load` ask for; everything that is wrong is told at once."""

import re
import secrets
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from echokit.cli.settings import effective_with_origins, origin
from echokit.config import Config
from echokit.cores import usable_cores
from echokit.errors import ConfigError
from echokit.loadgen.objectives import Objective, parse_objectives
from echokit.loadgen.session import Wish
from echokit.loadgen.settings import LoadSettings
from echokit.loadgen.shown import counted
from echokit.net.address import EVERY_ADDRESS, Endpoint
from echokit.units import format_duration, parse_duration, parse_size

__all__ = ["read_wish"]

Value = TypeVar("Value")

_MOST_CONNECTIONS = 100_000
_MOST_IN_FLIGHT = 100_000
_MOST_WORKERS = 256
_MOST_COUNT = 10**15
_LARGEST = 16 << 20
_LONGEST = 366 * 86400
_FASTEST = 1e9
_CHUNK_SIZE = 65536
_TIMEOUT = 5.0
_DURATION = 5.0


def read_wish(ctx: typer.Context) -> Wish:
    """What the line, the variables and the file ask for.

    Raises:
        ConfigError: Something of it cannot be meant.
    """
    found = _Options(ctx)
    try:
        config, origins = effective_with_origins(ctx, None, own=("workers",))
    except ConfigError as error:
        found.problems.extend(error.problems)
        config, origins = Config(), {}
    target = found.read("target", _target)
    if target is None and (("host",) in origins or ("port",) in origins):
        target = _checked(Endpoint(config.host, config.port), found.problems)
    sizes = found.read("size", _sizes) or (1, 1)
    duration = found.read("duration", _times(1e-3, _LONGEST))
    count = found.read("count", _numbers(1, _MOST_COUNT))
    workers = found.read("workers", _numbers(0, _MOST_WORKERS))
    objectives = found.objectives()
    connections = found.read("connections", _numbers(1, _MOST_CONNECTIONS)) or 1
    settings = LoadSettings(
        seed=secrets.randbelow(1 << 32) if config.seed is None else config.seed,
        family=config.address_family,
        connections=connections,
        duration=_DURATION if duration is None and count is None else duration,
        count=count,
        size_min=sizes[0],
        size_max=sizes[1],
        rate=found.read("rate", _rate),
        in_flight=found.read("in_flight", _numbers(1, _MOST_IN_FLIGHT)) or 1,
        framing=config.framing,
        chunk_size=config.chunk_size if ("chunk_size",) in origins else _CHUNK_SIZE,
        churn=ctx.params["churn"],
        warmup=found.read("warmup", _times(0, _LONGEST)) or 0.0,
        workers=workers or min(usable_cores(), connections),
        timeout=config.client.timeout if ("client", "timeout") in origins else _TIMEOUT,
        connect_timeout=config.client.connect_timeout,
        calibrate=ctx.params["calibrate"],
    )
    labels = found.labels()
    found.problems.extend(_conflicts(settings))
    if found.problems:
        raise ConfigError(found.problems)
    return Wish(target=target, settings=settings, objectives=objectives, labels=labels)


class _Options:
    """The options as they were given, and what is wrong with them."""

    def __init__(self, ctx: typer.Context) -> None:
        self._ctx = ctx
        self.problems: list[str] = []

    def read(self, name: str, parse: Callable[[str], Value]) -> Value | None:
        """What the option says; None where it was not given, or is wrong."""
        text: Any = self._ctx.params[name]
        if text is None:
            return None
        try:
            return parse(text)
        except ConfigError as error:
            self.problems.extend(error.problems)
        except ValueError as error:
            where = "the target" if name == "target" else origin(self._ctx, name)
            self.problems.append(f"{where}: {error}; found {text!r}")
        return None

    def objectives(self) -> list[Objective]:
        """The objectives of every time that the option was given."""
        texts: list[str] = self._ctx.params["objective"] or []
        if texts and origin(self._ctx, "objective") == "ECHOKIT_OBJECTIVE":
            # It has been split at its spaces, which may stand within a term.
            texts = [" ".join(texts)]
        found = []
        for text in texts:
            try:
                found += parse_objectives(text)
            except ConfigError as error:
                self.problems.extend(error.problems)
        return found

    def labels(self) -> dict[str, str]:
        """The labels by name."""
        labels: dict[str, str] = {}
        for text in self._ctx.params["label"] or ():
            name, equals, value = text.partition("=")
            if not _is_text(text):
                self.problems.append(f"--label: should be UTF-8 text; found {text!r}")
            elif not (name and equals):
                self.problems.append(f"--label: write it like run=nightly; found {text!r}")
            elif name in labels:
                self.problems.append(f"--label: {name!r} is given twice")
            labels[name] = value
        return labels


def _is_text(text: str) -> bool:
    """Whether it can be written in a document: bytes of argv that are no UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _target(text: str) -> Endpoint:
    problems: list[str] = []
    endpoint = _checked(Endpoint.parse(text), problems)
    if problems:
        raise ConfigError(problems)
    return endpoint


def _checked(endpoint: Endpoint, problems: list[str]) -> Endpoint:
    if endpoint.host in ("", EVERY_ADDRESS):
        problems.append("the target is every address, which is for serve: name the server's")
    if endpoint.port == 0:
        problems.append("port 0 means any free port, which is for serve: name the server's")
    return endpoint


def _numbers(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"should be a number from {least} to {most}")
        return int(text)

    return read


def _times(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        seconds = parse_duration(text)
        if not least <= seconds <= most:
            bounds = f"from {format_duration(least)} to {format_duration(most)}"
            raise ValueError(f"should be a time {bounds}")
        return seconds

    return read


def _sizes(text: str) -> tuple[int, int]:
    least, dash, most = text.partition("-")
    sizes = (parse_size(least), parse_size(most if dash else least))
    if not 1 <= sizes[0] <= sizes[1] <= _LARGEST:
        raise ValueError("should be from 1 to 16MiB, the smaller before the larger")
    return sizes


def _rate(text: str) -> float:
    wrong = not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,9})?", text, re.ASCII)
    if wrong or not 0 < float(text) <= _FASTEST:
        raise ValueError("should be a number of exchanges a second, like 1000 or 0.5")
    return float(text)


def _conflicts(settings: LoadSettings) -> list[str]:
    found = []
    if settings.churn and settings.in_flight > 1:
        found.append("--churn and --in-flight do not go together: a connection has one exchange")
    if settings.workers > settings.connections:
        found.append(
            f"--workers: {settings.workers} workers have"
            f" {counted(settings.connections, 'connection')} between them: give each one at least"
        )
    return found
