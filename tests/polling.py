"""Waiting for another thread or process: by looking again, and never for ever."""

import time
from collections.abc import Callable

TIMEOUT_SECONDS = 10.0


def until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.002)
