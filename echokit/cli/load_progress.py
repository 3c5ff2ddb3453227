"""How far a load is, on a terminal: a bar, and what each family has given so far."""

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from echokit.loadgen.measured import FAMILY_TITLES
from echokit.loadgen.shown import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from echokit.loadgen.account import Account
    from echokit.loadgen.run import Progress

__all__ = ["shown_progress"]


@contextmanager
def shown_progress(*, quiet: bool) -> "Iterator[Callable[[Progress], None] | None]":
    """What to call between turns; None where nothing is to be shown.

    Nothing is drawn but between turns, when nothing is in flight: showing costs the run nothing.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(progress: "Progress") -> None:
            live.update(_drawn(progress), refresh=True)

        yield show


def _drawn(progress: "Progress") -> "RenderableType":
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=1.0, completed=progress.share, width=40), f"{progress.share:.0%}")

    lines = [
        Text(
            f"{FAMILY_TITLES[family]}  "
            + ("warming up" if family == progress.warming_up else _so_far(account)),
            overflow="ellipsis",
            no_wrap=True,
        )
        for family, account in progress.accounts.items()
    ]
    return Group(bar, *lines)


def _so_far(account: "Account") -> str:
    total, response = account.total, account.response.figure()
    if not total.seconds:
        return "waiting for its turn"
    # A narrow terminal cuts the end off: what matters more stands before it.
    return (
        f"{account.requests_per_s:,.0f}/s  {total.failed:,} errors"
        f"  p50 {duration(response.p50_us)}  p99 {duration(response.p99_us)}"
    )
