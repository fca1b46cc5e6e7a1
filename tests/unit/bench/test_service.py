"""At which load, and from when on, the whole service is measured."""

from typing import Any

import pytest

from storage.queue.submission import Submitted
from storage.wire.messages import Job, Lane, Status
from worker.bench import service
from worker.bench.end_to_end import doubts
from worker.bench.report import Latency, LoadReport
from worker.bench.service import Service

JOBS, PER_SECOND = 20, 10.0
STAND_STILL, SERVED = 0.5, 0.01


class Times:
    """The module `time`, of a clock that goes on when somebody sleeps, or waits for Redis."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds from anywhere."""
        return self.now

    def time(self) -> float:
        """Unix seconds."""
        return 1.7e9 + self.now

    def sleep(self, seconds: float) -> None:
        """Let it go on."""
        self.now += seconds


class StandsStill:
    """Takes jobs at once, but for the first, and has each done soon after it has taken it."""

    def __init__(self, times: Times) -> None:
        self._times = times
        self._finished: dict[str, float] = {}

    def xlen(self, stream: str) -> int:
        """Nothing waits."""
        return 0

    def submit(self, job: Job, lane: Lane) -> Submitted:
        """It stands still with the first."""
        self._times.sleep(0 if self._finished else STAND_STILL)
        self._finished[job.id] = 1000 * (self._times.time() + SERVED)
        return Submitted(job.id, Status.QUEUED, enqueued=True)

    def status(self, job_id: str) -> dict[str, str]:
        """Done."""
        return {"status": "done", "finished_at_ms": str(self._finished[job_id])}


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Service:
    """A service that stands still once."""
    times = Times()
    monkeypatch.setattr(service, "time", times)
    stub: Any = StandsStill(times)
    made = Service(stub, stub, objects=["a.wav"], metrics_port=0, log=stub, redis_pid=0)
    made._submissions = stub
    return made


def test_a_job_waits_from_the_time_that_was_meant_for_it(running: Service) -> None:
    """Those that could not be submitted while Redis stood still, waited too."""
    done = running.run(JOBS, per_second=PER_SECOND)
    late = [max(0.0, STAND_STILL - number / PER_SECOND) for number in range(1, JOBS)]
    late_ms = [1000 * seconds for seconds in (0.0, *late)]
    assert [each.late_ms for each in done] == pytest.approx(late_ms, abs=0.01)
    waited_ms = [1000 * seconds for seconds in (STAND_STILL, *late)]
    took_ms = [1000 * SERVED + each for each in waited_ms]
    assert [each.queue_to_done_ms for each in done] == pytest.approx(took_ms, abs=0.01)


def test_jobs_without_a_schedule_are_never_late(running: Service) -> None:
    """All at once, each is submitted as soon as the one before it is."""
    done = running.run(3)
    assert [each.late_ms for each in done] == [0, 0, 0]
    assert done[0].queue_to_done_ms == pytest.approx(1000 * (STAND_STILL + SERVED), abs=0.01)
    assert done[1].queue_to_done_ms == pytest.approx(1000 * SERVED, abs=0.01)


@pytest.mark.parametrize(
    ("late_seconds", "said"),
    [
        ([0.0] * 9 + [0.0011], "up to 1.1 ms late (most), more than 1% of the latency of 100 ms"),
        ([0.0] * 9 + [0.0009], ""),
        ([0.0] * 1980 + [0.002] * 20, ""),
        ([0.0] * 1900 + [0.002] * 100, "up to 2 ms late (p99), more than 1% of the latency of"),
        (None, ""),
    ],
)
def test_a_schedule_that_was_not_kept_is_said(late_seconds: list[float] | None, said: str) -> None:
    """By the p99, or by the most of too few for one; nothing of jobs that had no schedule."""
    late = None if late_seconds is None else Latency.of(late_seconds)
    took = Latency.of([0.1] * len(late_seconds or [0]))
    found = doubts(LoadReport(9, 1.0, 1.0, took, {}, 1.0, 1.0, late))
    assert len(found) == bool(said)
    assert said in "".join(found)
