"""What every test with others' programs needs."""

import ctypes
import sys
from collections.abc import Iterator

import pytest

# From linux/prctl.h.
_PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="session", autouse=True)
def _adopts_orphans() -> Iterator[None]:
    """What a program has started, and left behind as it was ended, is waited for here.

    The system's first process, which would get it otherwise, need not do so in a container.
    """
    if sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
