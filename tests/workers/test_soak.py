"""A thousand clients for a minute, every byte of which is checked."""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from tests.cli.processes import environment
from tests.conftest import AVAILABLE, ROOT
from tests.workers.group import Group
from tests.workers.proc import descriptors, eventually

CONNECTIONS = 1000
SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize(
    "workers",
    [
        1,
        pytest.param(
            2, marks=pytest.mark.skipif(sys.platform != "linux", reason="workers are Linux's")
        ),
    ],
)
def test_nothing_is_lost(workers: int) -> None:
    # It takes longer than the time after which tests show where they hang.
    faulthandler.cancel_dump_traceback_later()
    seed = int.from_bytes(os.urandom(4))
    with Group("*", workers, "--chunk-size", "64k", quiet=True) as group:
        pids = [group.pid, *group.workers]
        base = [len(descriptors(pid)) for pid in pids]
        numbers = map(str, (group.port, CONNECTIONS, SECONDS, seed))
        with tempfile.TemporaryFile() as told:
            subprocess.run(
                [sys.executable, "-m", "tests.workers.exchange", *numbers, *AVAILABLE.values()],
                cwd=ROOT,
                env=environment(),
                stdout=told,
                timeout=SECONDS + 100,
                check=True,
            )
            told.seek(0)
            seen = json.load(told)
        assert (seen["wrong"], seen["faults"]) == (0, {}), f"seed {seed}"
        assert seen["connections"] >= CONNECTIONS
        assert seen["messages"] >= CONNECTIONS
        eventually(lambda: [len(descriptors(pid)) for pid in pids] == base)
        assert [group.pid, *group.workers] == pids
        # What the server has counted is what its clients have.
        assert "listening on every address" in group.running.err.line()
        os.kill(group.pid, signal.SIGUSR1)
        counted = group.running.err.line()
        assert counted.startswith(f"echokit: {seen['connections']} connections accepted, 0 open; ")
        assert f" messages, {seen['bytes']} bytes in, {seen['bytes']} bytes out" in counted
        done, _ = group.end(signal.SIGTERM)
    assert done.code == 0
    assert (done.told, done.counted) == ([], [f"ended: {seen['connections']} clean"])
    print(json.dumps(seen))  # noqa: T201 - with -s: how much that was
