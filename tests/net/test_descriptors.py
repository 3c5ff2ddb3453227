"""How many connections the limit of descriptors leaves room for."""

import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")


def _in_a_process(soft: int, hard: int, code: str) -> str:
    """What `code` prints in a process with these limits."""
    begin = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    imports = "from echokit.net.descriptors import raise_limit, room_for_connections\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + imports + code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("limit", "room"),
    # Less 64, or half of what is too little for that.
    [(1024, 960), (200, 136), (128, 64), (100, 50), (64, 32), (20, 10)],
)
def test_a_reserve_is_kept_back(limit: int, room: int) -> None:
    assert _in_a_process(limit, limit, "print(room_for_connections())") == str(room)


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = "print(room_for_connections()); raise_limit(); print(room_for_connections())"
    assert _in_a_process(100, 1000, code).split() == ["50", "936"]


@pytest.mark.parametrize(
    ("connections", "room"), [(10, 50), (50, 50), (51, 58), (500, 500), (936, 936), (5000, 936)]
)
def test_the_soft_limit_is_raised_no_more_than_asked_for(connections: int, room: int) -> None:
    code = f"raise_limit({connections}); print(room_for_connections())"
    assert _in_a_process(100, 1000, code) == str(room)


@pytest.mark.parametrize(("connections", "told"), [(936, "well"), (937, "--connections: 937")])
def test_a_load_of_more_connections_than_there_can_be_is_refused(
    connections: int, told: str
) -> None:
    code = f"""
from echokit.errors import ConfigError
from echokit.loadgen.descriptors import allow_descriptors
try:
    allow_descriptors({connections})
    print("well")
except ConfigError as error:
    print(error)
"""
    assert _in_a_process(100, 1000, code).startswith(told)


def test_a_process_without_a_limit_has_room_for_plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    from echokit.net.descriptors import room_for_connections  # noqa: PLC0415 - where `resource` is

    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (unlimited, unlimited))
    assert room_for_connections() == 1_000_000 - 64


def test_a_system_without_such_limits_has_room_for_plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    from echokit.net.descriptors import (  # noqa: PLC0415 - where `resource` is
        raise_limit,
        room_for_connections,
    )

    monkeypatch.setitem(sys.modules, "resource", None)
    assert room_for_connections() == 1_000_000 - 64
    raise_limit()
