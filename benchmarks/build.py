"""Compiling what is written in C and Go, once for each state of its source."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["BUILD", "HERE", "ROOT", "UnavailableError", "compiled", "compiled_go", "compiler"]

HERE = Path(__file__).parent
ROOT = HERE.parent
# Where what is made goes by default.
BUILD = ROOT / "build"
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


class UnavailableError(Exception):
    """Something that cannot be had here; the message says why."""


def compiler() -> str:
    """The C compiler's path: `$CC`, or what is at hand.

    Raises:
        UnavailableError: There is none.
    """
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    raise UnavailableError("no C compiler is installed")


def compiled(program: str) -> Path:
    """The path of `echo` or `load`, compiled from its C source.

    Raises:
        UnavailableError: There is no compiler, or it fails; then with what it says.
    """
    cc = compiler()
    source = HERE / f"{program}.c"
    # Which headers it includes is not looked up: one too many costs a second, once.
    parts = [source, *sorted(HERE.glob("*.h"))]
    return _built(program, [cc, *_FLAGS, "-o"], source, parts)


def compiled_go() -> Path:
    """The path of the Go echo server.

    Raises:
        UnavailableError: Go is not installed, or fails; then with what it says.
    """
    go = shutil.which("go")
    if go is None:
        raise UnavailableError("go is not installed")
    source = HERE / "echo.go"
    return _built("echo-go", [go, "build", "-o"], source, [source])


def _built(name: str, command: list[str], source: Path, parts: list[Path]) -> Path:
    digest = hashlib.sha256(" ".join(command).encode())
    for part in parts:
        digest.update(part.read_bytes())
    target = _cache() / f"{name}-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Under a name of its own first: another run may be compiling the same.
    draft = target.with_suffix(f".{os.getpid()}")
    environment = {"GO111MODULE": "off", "GOFLAGS": "", **os.environ}
    done = subprocess.run(
        [*command, str(draft), str(source)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode != 0:
        raise UnavailableError(f"{source.name} did not compile: {done.stderr.strip()}")
    draft.replace(target)
    return target


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "echokit-benchmarks"
