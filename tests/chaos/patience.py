"""Waiting for what takes seconds: less often than `tests.support.polling`, a look costs."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_LOOK_SECONDS = 0.05
_PAUSE_SECONDS = 4 * _LOOK_SECONDS
Found = TypeVar("Found")


class Impatience(Exception):
    """What was waited for did not come about in time."""


def eventually(condition: Callable[[], Found], timeout_seconds: float, what: str) -> Found:
    """What the condition gives, once that is true. Raises Impatience, naming `what`.

    A look is a question to servers that share the cores with the workers; `what` says what is
    waited for.
    """
    deadline = time.monotonic() + timeout_seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise Impatience(f"waited {timeout_seconds:g} s in vain: {what}")
        let_pass(_LOOK_SECONDS)
    return found


class Stopwatch:
    """The time in which this machine let a test look.

    Between two looks no more counts than a few of them take: for longer, everything stood still,
    and so did what is measured. `pauses` says how often that was.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.pauses = 0
        self._last = time.monotonic()

    def sees(self, condition: Callable[[], Found]) -> Callable[[], Found]:
        """The condition, each look at which is noted."""

        def look() -> Found:
            now = time.monotonic()
            self.seconds += min(now - self._last, _PAUSE_SECONDS)
            self.pauses += now - self._last > _PAUSE_SECONDS
            self._last = now
            return condition()

        return look


def let_pass(seconds: float) -> None:
    """Let time pass: how long a fault lasts, which no event tells."""
    threading.Event().wait(seconds)
