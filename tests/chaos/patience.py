"""Waiting for what takes seconds: less often than `tests.support.polling`, a look costs."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

_LOOK_SECONDS = 0.05
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


def let_pass(seconds: float) -> None:
    """Let time pass: how long a fault lasts, which no event tells."""
    threading.Event().wait(seconds)
