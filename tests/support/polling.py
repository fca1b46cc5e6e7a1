"""Waiting for another thread or process: by looking again, and never for ever."""

import time
from collections.abc import Callable
from typing import TypeVar

TIMEOUT_SECONDS = 60.0  # a failed test takes so long, and no other
Found = TypeVar("Found")


def until(condition: Callable[[], Found], timeout_seconds: float = TIMEOUT_SECONDS) -> Found:
    """What the condition gives, as soon as that is true.

    Sleeps between two looks at a process that cannot tell us.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)
    return found
