"""The result document: everything that one run of `echokit load` found, as JSON.

Its JSON Schema is `result.schema.json` beside this file. A document stands for a run that was
completed, interrupted or failed: what is unknown is null, what was not measured is left out of
`families`.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from echokit.errors import ConfigError, reason
from echokit.loadgen.figures import Figure, Part
from echokit.loadgen.measured import Count, FamilyName, FamilyResult, PerSecond, Seconds

__all__ = [
    "SCHEMA_VERSION",
    "Calibration",
    "Environment",
    "Result",
    "RunSettings",
    "SelfAudit",
    "Source",
    "Target",
    "Verdict",
    "WarmUp",
    "load_result",
    "problems",
    "save_result",
]

SCHEMA_VERSION = 1
# A document is some hundred KiB; no more than this is read of a file that claims to be one.
_LARGEST = 64 << 20


def _a_date(text: str) -> str:
    """`text`, which the pattern lets through, if there is such a date."""
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("there is no such date or time") from error
    return text


Positive = Annotated[Count, Field(ge=1)]
# Within years that a date can still be told of when 30 years have been added.
Moment = Annotated[
    str,
    Field(pattern=r"^[12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"),
    AfterValidator(_a_date),
]


class Target(Part):
    """What was measured."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]
    own_server: bool = Field(description="No target was given: echokit's own server was measured.")


class RunSettings(Part):
    """What was asked for. With several workers it is what all do together, for each family."""

    connections: Positive
    duration_s: Seconds | None
    count: Positive | None
    size_min: Positive
    size_max: Positive
    rate_per_s: PerSecond | None
    in_flight: Positive
    framing: dict[str, Any]
    churn: bool
    warmup_s: Seconds
    workers: Positive
    timeout_s: Seconds
    connect_timeout_s: Seconds
    turn_s: Seconds = Field(description="How long the families' turns are.")


class Environment(Part):
    """Where it was measured from."""

    python: str
    platform: str
    kernel: str
    cpu_count: Count | None
    load_average: tuple[float, float, float] | None = Field(description="As the run began.")


class WarmUp(Part):
    """What went before the measuring, in none of the figures."""

    requests: Count
    failed: Count


class Calibration(Part):
    """What this generator reaches against echokit's own server, on this machine."""

    requests_per_s: PerSecond
    service: Figure


class SelfAudit(Part):
    """What the run says of the generator itself."""

    cpu_share: Seconds = Field(description="Own CPU time by measured time, of the busiest worker.")
    lateness_of: Literal["sends", "timer"] = Field(
        description="Open loop: of sends, against when they were due and a connection was free."
        " Closed loop: of a timer, which shows how long what was ready had to wait."
    )
    lateness: Figure
    warm_up: WarmUp
    calibration: Calibration | None
    trustworthy: bool = Field(description="Whether the figures tell of the target.")
    verdict: str = Field(description="The same in one line.")
    findings: list[str] = Field(description="Everything that speaks against the figures.")


class Verdict(Part):
    """One objective, for one family."""

    term: str = Field(description="As it was written: `p99<5ms`.")
    family: FamilyName
    figure: str = Field(description="What is compared: `p99`, `errors`, `rate`.")
    operator: Literal["<", "<=", ">", ">="]
    limit: float = Field(description="In `unit`.")
    unit: Literal["us", "%", "1", "1/s"]
    measured: float | None = Field(description="In `unit`; null where nothing was measured.")
    met: bool


class Source(Part):
    """One of the runs that a merged document is made of."""

    started_at: Moment
    requests: Count
    environment: Environment


class Result(Part):
    """The whole document."""

    format: Literal["echokit-load"] = "echokit-load"
    schema_version: Literal[1] = 1
    echokit_version: str
    status: Literal["complete", "interrupted", "failed"]
    error: str | None = Field(
        description="Why it failed or was interrupted, or what of it could not be written."
    )
    exit_code: Annotated[int, Field(ge=0, le=255)] = Field(description="The command's.")
    started_at: Moment = Field(description="In UTC.")
    duration_s: Seconds = Field(description="From start to end, everything in it.")
    target: Target | None
    settings: RunSettings | None
    seed: Count | None = Field(description="What sizes and payloads come from.")
    labels: dict[str, str]
    environment: Environment
    families: dict[FamilyName, FamilyResult]
    skipped: dict[FamilyName, str] = Field(description="Families not measured, and why.")
    self_audit: SelfAudit | None
    objectives: list[Verdict]
    merged_from: list[Source] = Field(description="Empty but in a merged document.")

    @model_validator(mode="after")
    def _has_families(self) -> Self:
        if self.status == "complete" and not self.families:
            raise ValueError("a run that is complete should have measured a family")
        return self

    def to_json(self) -> str:
        """The document as text."""
        return self.model_dump_json(indent=2) + "\n"


def save_result(result: Result, path: Path) -> None:
    """Write the document to `path`.

    Raises:
        OSError: It cannot be written.
    """
    path.write_text(result.to_json(), encoding="utf-8")


def load_result(path: Path) -> Result:
    """Read the document at `path`.

    Raises:
        ConfigError: There is no such file, or it is no document of this schema version, or not
            a whole one; each problem names its place.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {reason(error)}") from error
    if len(data) > _LARGEST:
        raise ConfigError(
            f"{path}: over {_LARGEST >> 20} MiB: no result of echokit load is so large"
        )
    try:
        text = data.decode()
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {_no_json(data, error)}") from error
    if not isinstance(document, dict) or document.get("format") != "echokit-load":
        raise ConfigError(f"{path}: it is JSON, but no result of echokit load")
    version = document.get("schema_version")
    if version is None:
        raise ConfigError(f"{path}: a result of echokit load, but without its schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        made_by = document.get("echokit_version")
        by = f", made by echokit {made_by}" if isinstance(made_by, str) else ""
        raise ConfigError(
            f"{path}: a result of schema version {version!r}{by}; this echokit reads version"
            f" {SCHEMA_VERSION}"
        )
    try:
        # As JSON, where a tuple is a list.
        return Result.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError([f"{path}: {problem}" for problem in problems(error)]) from error


def problems(error: ValidationError) -> list[str]:
    """What is wrong with a document: a line each, with its place."""
    return [
        f"{'.'.join(map(str, problem['loc'])) or 'document'}: {_said(problem['msg'])}"
        for problem in error.errors(include_input=False, include_url=False)
    ]


def _said(message: str) -> str:
    """What pydantic says, or what we say, which it has a title for."""
    return message.removeprefix("Value error, ")


def _no_json(data: bytes, error: Exception) -> str:
    if not data.strip():
        return "it is empty"
    if isinstance(error, json.JSONDecodeError):
        if not error.doc[error.pos :].strip() or error.msg.startswith("Unterminated"):
            return f"it is cut short, at line {error.lineno}"
        what = error.msg[:1].lower() + error.msg[1:]
        return f"it is no JSON: line {error.lineno}, column {error.colno}: {what}"
    return "it is no JSON"
