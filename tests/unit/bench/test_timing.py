"""Repeating, and what is said of the times."""

import pytest

from worker.bench.choices import Part
from worker.bench.machine import Machine
from worker.bench.report import Latency, Report, SpeechReport
from worker.bench.show import figures
from worker.bench.timing import repeat

MACHINE = Machine("cpu", "A", "A", 2, (), "3.11", "2.13", "2026-01-02")


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
    """The slowest show in p99, where there are enough runs for one."""
    latency = Latency.of([0.001] * 495 + [1.0] * 5)
    assert latency.p50_ms == latency.p90_ms == pytest.approx(1.0)
    assert latency.p99_ms == pytest.approx(10.99, abs=0.01)
    assert (latency.runs, latency.most_ms) == (500, 1000.0)


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        (3, "p50 1, most 1 (3 runs)"),
        (63, "p50 1, most 1 (63 runs)"),
        (64, "p50 1, p90 1 (64 runs)"),
        (458, "p50 1, p90 1 (458 runs)"),
        (459, "p50 1, p99 1 (459 runs)"),
    ],
)
def test_no_percentile_is_told_of_too_few_runs(runs: int, told: str) -> None:
    """The slowest of three runs is called what it is."""
    speech = SpeechReport(5.0, 1, Latency.of([0.001] * runs), 3.0, 300.0, 2, 600.0)
    (sheet,) = figures(Report(Part.SPEECH, MACHINE, "silero", "", "", (), speech))
    assert sheet.rows[0][1] == told


def test_a_kept_result_with_a_percentile_of_too_few_is_refused() -> None:
    """Whoever kept it: no page may show it."""
    with pytest.raises(ValueError, match="p99 of 458 runs"):
        Latency(1.0, 2.0, 458)
    assert Latency(1.0, 2.0, 459).p99_ms == 2.0
    assert Latency(1.0, None, 3).p99_ms is None
