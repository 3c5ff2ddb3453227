"""`echokit report`: the HTML page of a run that was saved."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report"]


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN.json", help="What 'load --json' wrote.")],
    html: Annotated[
        str, typer.Option("--html", metavar="FILE", help="Where to write; '-' is stdout.")
    ],
) -> None:
    """Make an HTML page of a result of 'echokit load': one file, with charts, that opens offline.

    It needs the extra 'report'. The page is made of runs that failed or were interrupted, too, and
    says so.
    """
    import echokit.loadgen.report  # noqa: F401 - what it needs may not be installed
    from echokit.cli.load_outputs import Outputs, check_kept
    from echokit.loadgen.merge import check_histograms
    from echokit.loadgen.result import load_result

    check_kept("--html", html, [run])
    result = check_histograms(load_result(run), run)
    with Outputs(None, None, "quiet", html=html) as outputs:
        outputs.write(result)
