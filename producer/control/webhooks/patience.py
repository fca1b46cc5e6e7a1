"""When a webhook is tried again: at once a few times, then every two hours, for a day."""

import random
from collections.abc import Callable

_MINUTE, _HOUR = 60, 3600
WAITS_SECONDS = (5, 30, 2 * _MINUTE, 10 * _MINUTE, 30 * _MINUTE, _HOUR, *[2 * _HOUR] * 11)
LONGEST_SECONDS = 12.0 * _HOUR  # that a receiver may ask for
_JITTER = 0.1  # of what failed together, not all comes again together


def wait_seconds(
    attempt: int,
    retry_after_seconds: float | None = None,
    chance: Callable[[], float] = random.random,
) -> float | None:
    """How long to wait after that attempt, from 1 on; None after the last.

    A receiver may lengthen a wait by `Retry-After`, and not shorten it. `chance` gives 0 to 1.
    """
    if attempt > len(WAITS_SECONDS):
        return None
    asked = min(retry_after_seconds or 0.0, LONGEST_SECONDS)
    return max(WAITS_SECONDS[attempt - 1], asked) * (1 + _JITTER * chance())
