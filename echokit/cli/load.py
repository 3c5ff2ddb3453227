"""`echokit load`: the load generator and latency meter."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echokit.cli.ending import Ended, exit_code, lines, tell
from echokit.cli.load_interrupts import Interrupts
from echokit.cli.options import ConnectTimeout, FramingName

if TYPE_CHECKING:
    from echokit.cli.load_outputs import Outputs
    from echokit.loadgen.result import Result

__all__ = ["EXAMPLES", "load"]

EXAMPLES = """Examples:

echokit load

echokit load localhost:7 -c 50 -d 10s --objective 'p99<5ms,errors<0.1%'

echokit load '[::1]:7' --rate 1000 --size 64-1k --json run.json"""


def load(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="HOST:PORT",
            help="What to measure; without it echokit's own server, in another process.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="ECHOKIT_CONFIG",
            metavar="FILE",
            help="YAML or TOML file with the target and the framing; flags go over it.",
        ),
    ] = None,
    connections: Annotated[
        str,
        typer.Option(
            "--connections",
            "-c",
            envvar="ECHOKIT_CONNECTIONS",
            metavar="N",
            help="How many connections at a time.",
        ),
    ] = "1",
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            envvar="ECHOKIT_DURATION",
            metavar="TIME",
            help="How long to measure, all families together. Default: 5s, unless -n is given.",
        ),
    ] = None,
    count: Annotated[
        str | None,
        typer.Option("--count", "-n", metavar="N", help="How many exchanges of each family."),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            envvar="ECHOKIT_SIZE",
            metavar="N|MIN-MAX",
            help="The size of a message, like 64 or 1k-64k: evenly between, from the seed.",
        ),
    ] = "64",
    rate: Annotated[
        str | None,
        typer.Option(
            envvar="ECHOKIT_RATE",
            metavar="R",
            help="Open loop: so many exchanges a second, whatever has come back. Without it a"
            " connection sends when its last has come back.",
        ),
    ] = None,
    in_flight: Annotated[
        str,
        typer.Option(
            envvar="ECHOKIT_IN_FLIGHT",
            metavar="N",
            help="How many exchanges a connection may have under way.",
        ),
    ] = "1",
    framing: FramingName = None,
    churn: Annotated[
        bool, typer.Option("--churn", help="A connection of its own for every exchange.")
    ] = False,
    warmup: Annotated[
        str,
        typer.Option(
            envvar="ECHOKIT_WARMUP",
            metavar="TIME",
            help="How long each family is warmed up before anything counts.",
        ),
    ] = "500ms",
    # Other commands have these five, too, where they mean something else or have other defaults.
    ipv4: Annotated[bool, typer.Option("-4", help="IPv4 only.")] = False,
    ipv6: Annotated[bool, typer.Option("-6", help="IPv6 only.")] = False,
    workers: Annotated[
        str,
        typer.Option(
            metavar="N",
            help="Over how many processes it is spread, at most one for each connection; 0: one for"
            " each core.",
        ),
    ] = "1",
    seed: Annotated[
        str | None,
        typer.Option(
            envvar="ECHOKIT_SEED",
            metavar="N",
            help="What sizes and payloads come from; without it one is drawn, and told with the"
            " result. It repeats what each connection sends, in its order, but not how many"
            " exchanges each of several connections gets.",
        ),
    ] = None,
    chunk_size: Annotated[
        str | None,
        typer.Option(
            envvar="ECHOKIT_CHUNK_SIZE",
            metavar="SIZE",
            help="The most bytes that one recv() asks for, 1 to 16MiB, like 64k. Default: 64KiB.",
        ),
    ] = None,
    connect_timeout: ConnectTimeout = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            envvar="ECHOKIT_TIMEOUT",
            metavar="TIME",
            help="How long an exchange may take. Default: 5s.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Measure the generator against echokit's own server first.",
        ),
    ] = True,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            envvar="ECHOKIT_OBJECTIVE",
            metavar="TERMS",
            help="What the figures should be, like 'p99<5ms,errors<0.1%,rate>1000'; p50 to p99.99,"
            " min, mean, max, also as connect.p99 and service.p99; errors<3, without %, is a number"
            " of exchanges; may come again.",
        ),
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write the result as one JSON document."),
    ] = None,
    junit: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE|-", help="Write the verdicts as JUnit XML."),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            metavar="FILE|-",
            help="Write the result as one HTML page, with charts; needs the extra 'report'.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="What the result is to be known by; may come again."),
    ] = None,
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="table|quiet", help="What stdout tells."),
    ] = "table",
) -> None:
    """Load an echo server, and measure how fast it comes back, over IPv4 and IPv6.

    Every byte that comes back is checked. Exit code 0 if all came back; 1 if something did not and
    no objective of errors says how much may, or if nothing did any more as the run ended, whatever
    the objectives say; 3 if there was nobody to connect to; 4 if an objective was missed; 130 if it
    was interrupted, whatever the figures are, and 143 by SIGTERM.
    """
    with ExitStack() as opened:
        interrupts = opened.enter_context(Interrupts())
        from echokit.cli.load_outputs import Outputs

        # Told before the run, not after it.
        outputs = opened.enter_context(Outputs(json_file, junit, output, html=html))
        try:
            interrupts.opened()
            result = _run(ctx, outputs, interrupts)
        except Ended:
            raise
        except BaseException as error:
            interrupts.writing()
            if not outputs.written:
                from echokit.loadgen.surroundings import unstarted

                outputs.write(unstarted("; ".join(lines(error)), exit_code(error)))
            raise
    if result.exit_code:
        raise Ended(result.exit_code)


def _run(ctx: typer.Context, outputs: "Outputs", interrupts: Interrupts) -> "Result":
    """Do what the line asks for, and write what it came to, also after an error."""
    from echokit.cli.load_options import read_wish
    from echokit.cli.load_progress import shown_progress
    from echokit.loadgen.session import Session

    session = interrupts.session = Session(read_wish(ctx), tell=tell)
    try:
        with shown_progress(quiet=outputs.quiet) as session.progress:
            session.run()
    except BaseException as error:
        interrupts.writing()
        outputs.write(session.result("; ".join(lines(error)), exit_code(error)))
        raise
    interrupts.writing()
    result = session.result(code=interrupts.code)
    outputs.write(result)
    if not any(family.due for family in result.families.values()):
        cut = "interrupted before anything was measured"
        tell(cut if interrupts.code else "no exchange was begun")
    return result
