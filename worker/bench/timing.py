"""Wall times of something done again and again, and what is said of them."""

import statistics
import time
from collections.abc import Callable

LEAST_RUNS = 3


def repeat(
    call: Callable[[], object],
    *,
    seconds: float,
    least_runs: int = LEAST_RUNS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """The seconds that each call took: as many calls as fit, and at least so many."""
    took: list[float] = []
    started = now = clock()
    while len(took) < least_runs or now - started < seconds:
        before = clock()
        call()
        now = clock()
        took.append(now - before)
    return took


def median_seconds(call: Callable[[], object], *, seconds: float) -> float:
    """The median time of a call."""
    return statistics.median(repeat(call, seconds=seconds))
