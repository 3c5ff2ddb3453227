"""Where and with what a run was made."""

import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from benchmarks.build import ROOT, UnavailableError, compiler

__all__ = ["busy", "describe", "versions"]


def busy(load: float, cores: int) -> str:
    """What to say of a load average that leaves less than half of the cores; else nothing."""
    if load <= cores / 2:
        return ""
    return f"the machine was busy: load average {load:.2f} on {cores} cores"


def describe(averages: Sequence[float]) -> dict[str, str]:
    """The machine, the date (UTC), and the load averages that it had at the start."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    hypervisor = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": (model[1] if model else platform.machine())
        + (", virtual machine" if hypervisor else ""),
        "cores": str(os.cpu_count()),
        "memory": f"{int(memory[1]) / (1 << 20):.1f} GiB" if memory else "unknown",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average at the start": " ".join(f"{load:.2f}" for load in averages),
    }


def versions() -> dict[str, str]:
    """Of everything that took part and is installed."""
    found = {"echokit": _echokit(), "Python": platform.python_version()}
    for package in ("uvloop", "trio"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    with contextlib.suppress(UnavailableError):
        found["C compiler"] = _first_line(compiler(), "--version")
    tools = {"go": "version", "socat": "-V", "ncat": "--version", "sockperf": "--version"}
    for tool, argument in tools.items():
        if shutil.which(tool):
            found[tool] = _first_line(tool, argument)
    return found


def _echokit() -> str:
    from echokit import __version__  # noqa: PLC0415 - one of several things that are looked up

    commit = _first_line("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return f"{__version__} ({commit})" if commit else __version__


def _first_line(*command: str) -> str:
    """What a tool says of itself, as far as it fits a line; nothing if it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    lines = [
        line for line in done.stdout.splitlines() + done.stderr.splitlines() if "ersion" in line
    ]
    return (lines or done.stdout.splitlines() or [""])[0].strip()
