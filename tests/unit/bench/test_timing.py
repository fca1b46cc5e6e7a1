"""Repeating, and what is said of the times."""

import pytest

from worker.bench.report import Latency
from worker.bench.timing import repeat


class Work:
    """Something that takes so many seconds, by a clock that nothing else moves."""

    def __init__(self, *seconds: float) -> None:
        self.now = 100.0
        self.seconds = iter(seconds)

    def __call__(self) -> None:
        """Take its time."""
        self.now += next(self.seconds)

    def clock(self) -> float:
        """Seconds."""
        return self.now


def test_as_many_runs_as_fit_the_time() -> None:
    """It goes on until the time is up, and each run counts for itself."""
    work = Work(1.0, 2.0, 1.0, 1.0, 99.0)
    assert repeat(work, seconds=5.0, clock=work.clock) == [1.0, 2.0, 1.0, 1.0]


def test_slow_work_runs_three_times() -> None:
    """A median of one would be no median."""
    work = Work(10.0, 20.0, 30.0, 99.0)
    assert repeat(work, seconds=0.0, clock=work.clock) == [10.0, 20.0, 30.0]


def test_latency_is_in_milliseconds_and_says_of_how_many_runs() -> None:
    """The slowest of a hundred shows in p99 alone."""
    latency = Latency.of([0.001] * 99 + [1.0])
    assert latency.p50_ms == pytest.approx(1.0)
    assert latency.p99_ms == pytest.approx(10.99, abs=0.01)
    assert latency.runs == 100
