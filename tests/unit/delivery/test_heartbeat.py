"""Heartbeats renew what is held, and abandon what was lost."""

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from storage.queue.entries import Delivery
from storage.queue.streams import JobStreams
from tests.support.pipeline_bench import Clock
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.unit.delivery.test_leases import delivery, hold, renewable
from worker.delivery.heartbeat import Heartbeat
from worker.delivery.leases import Leases
from worker.pipeline.progress import Progress
from worker.telemetry.metrics import Metrics


class Streams:
    """Stands in for Redis: remembers what is renewed, and says what is lost."""

    def __init__(self) -> None:
        self.renewed: list[Delivery] = []
        self.jobs: list[str] = []
        self.watched: list[Delivery] = []
        self.lost: list[Delivery] = []
        self.errors: list[Exception] = []
        self.answered = threading.Event()

    def heartbeat(
        self, held: Sequence[tuple[Delivery, str]], *, renew: bool = True
    ) -> list[Delivery]:
        """Renew, or only look."""
        if self.errors:
            raise self.errors.pop(0)
        if not renew:
            self.watched = [each for each, _ in held]
            return [each for each in self.watched if each in self.lost]
        self.renewed, self.jobs = [each for each, _ in held], [job_id for _, job_id in held]
        self.answered.set()
        return [each for each in self.renewed if each in self.lost]


def heartbeat(leases: Leases, streams: Streams, **options: Any) -> Heartbeat:
    """A heartbeat of a worker whose device does not hang."""
    return Heartbeat(
        cast(JobStreams, streams),
        leases,
        **{
            "lease_seconds": 0.01,
            "stalled": lambda: False,
            "metrics": Metrics(),
            "clock": lambda: 100.0,
            **options,
        },
    )


def test_a_beat_renews_and_abandons_what_was_lost() -> None:
    """The server says which entries are another worker's; the metric counts them."""
    leases, streams, metrics = Leases(), Streams(), Metrics()
    lost, kept = hold(leases, delivery("1-0"), delivery("2-0"))
    streams.lost = [delivery("1-0")]
    beats = heartbeat(leases, streams, metrics=metrics)
    beats.beat()
    assert streams.renewed == [delivery("1-0"), delivery("2-0")]
    assert streams.jobs == ["1-0", "2-0"]  # by which a crash is withdrawn that was none
    assert (lost.abandoned, kept.abandoned) == (True, False)
    assert metrics.lost._value.get() == 1
    streams.lost = []
    beats.beat()
    assert streams.renewed == [delivery("2-0")]


def test_what_is_being_settled_is_not_lost() -> None:
    """Its entry is gone as soon as the server has settled it, before anyone here knows."""
    leases, streams, metrics = Leases(), Streams(), Metrics()
    (task,) = hold(leases, delivery("1-0"))
    leases.settling([delivery("1-0"), delivery("9-0")])
    streams.lost = [delivery("1-0")]
    beats = heartbeat(leases, streams, metrics=metrics)
    with capture_logs() as logs:
        beats.beat()
    assert streams.renewed == [delivery("1-0")]  # for it may also take long
    assert (task.abandoned, leases.holds(delivery("1-0"))) == (False, True)
    assert (metrics.lost._value.get(), logs) == (0, [])


def test_what_could_not_be_settled_can_be_lost() -> None:
    """Nobody settles it any more: it must not be held for ever."""
    leases = Leases()
    hold(leases, delivery("1-0"))
    leases.settling([delivery("1-0")])
    leases.let_lapse(delivery("1-0"))
    assert leases.lose([delivery("1-0")]) == [delivery("1-0")]
    assert len(leases) == 0


def test_a_beat_only_looks_at_what_is_overdue() -> None:
    """By the heartbeat's own clock; when another worker has it, the task is abandoned."""
    leases, streams = Leases(), Streams()
    stuck, _ = hold(leases, delivery("1-0"), delivery("2-0"))
    stuck.overdue_at = 99.0
    beats = heartbeat(leases, streams)
    beats.beat()
    assert (streams.renewed, streams.watched) == ([delivery("2-0")], [delivery("1-0")])
    assert not stuck.abandoned
    streams.lost = [delivery("1-0")]
    beats.beat()
    assert stuck.abandoned
    assert not leases.holds(delivery("1-0"))


def test_what_is_let_lapse_stays_held() -> None:
    """It is looked at and not renewed, until a newer delivery of it comes."""
    leases = Leases()
    hold(leases, delivery("1-0"), delivery("2-0"))
    leases.let_lapse(delivery("1-0"))
    leases.let_lapse(delivery("2-0", count=9))  # another holding: nothing of ours
    assert renewable(leases, 0.0) == [delivery("2-0")]
    assert leases.lapsing(0.0) == [(delivery("1-0"), "1-0")]
    assert leases.holds(delivery("1-0"))
    hold(leases, delivery("1-0", count=2))
    assert not leases.holds(delivery("1-0"))
    assert leases.lapsing(0.0) == []


def test_a_hanging_device_withholds_all_beats() -> None:
    """Others may have the jobs; nothing is forgotten, should it come back in time."""
    leases, streams = Leases(), Streams()
    (task,) = hold(leases, delivery())
    with capture_logs() as logs:
        heartbeat(leases, streams, stalled=lambda: True).beat()
    assert streams.renewed == []
    assert not task.abandoned
    assert len(leases) == 1
    assert [entry["event"] for entry in logs] == ["heartbeat.withheld"]


@pytest.mark.parametrize(
    ("error", "told"), [(RedisConnectionError("reset"), 1), (RuntimeError("boom"), 2)]
)
def test_the_heartbeat_outlives_errors(error: Exception, told: int) -> None:
    """A heartbeat that ended would hand every job of this worker to others."""
    leases, streams = Leases(), Streams()
    hold(leases, delivery())
    streams.errors = [error, error]
    beats = heartbeat(leases, streams)
    with capture_logs() as logs:
        beats.start()
        assert streams.answered.wait(TIMEOUT_SECONDS)
        beats.stop()
    assert streams.renewed == [delivery()]
    assert [entry["event"] for entry in logs] == ["heartbeat.failed"] * told


def test_an_outage_is_told_once() -> None:
    """Not with every beat of it; the next outage is told again."""
    leases, streams = Leases(), Streams()
    streams.errors = [RedisConnectionError("reset")] * 3
    beats = heartbeat(leases, streams)
    with capture_logs() as logs:
        beats.start()
        assert streams.answered.wait(TIMEOUT_SECONDS)
        streams.answered.clear()
        streams.errors = [RedisConnectionError("reset")] * 3
        until(lambda: not streams.errors)
        assert streams.answered.wait(TIMEOUT_SECONDS)
        beats.stop()
    assert [entry["event"] for entry in logs] == ["heartbeat.failed"] * 2


class Waits(threading.Event):
    """Waits for nothing, `times` times: a note of each wait."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.seconds: list[float | None] = []
        self._times = times

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set: after the last time."""
        self.seconds.append(timeout)
        return len(self.seconds) > self._times


@pytest.mark.parametrize(("lease_seconds", "again"), [(30.0, 0.5), (1.0, 0.25)])
def test_a_beat_that_failed_is_soon_tried_again(lease_seconds: float, again: float) -> None:
    """What a time-out has cost of the lease is not lengthened by another quarter of it."""
    leases, streams = Leases(), Streams()
    hold(leases, delivery())
    streams.errors = [RedisConnectionError("timed out")]
    beats = heartbeat(leases, streams, lease_seconds=lease_seconds)
    beats._stop = waits = Waits(times=2)
    beats._run()
    assert waits.seconds == [lease_seconds / 4, again, lease_seconds / 4]
    assert streams.renewed == [delivery()]


def test_a_stopped_heartbeat_renews_nothing() -> None:
    """After stop the leases are left to run out, or were given back."""
    leases, streams = Leases(), Streams()
    hold(leases, delivery())
    beats = heartbeat(leases, streams)
    beats.start()
    assert streams.answered.wait(TIMEOUT_SECONDS)
    beats.stop()
    streams.answered.clear()
    assert not streams.answered.wait(0.02)


def test_a_heartbeat_that_hangs_is_named() -> None:
    """Or every job would be done twice, and nobody know; between two it is idle."""
    clock, gate = Clock(), threading.Event()
    progress, streams = Progress(clock), Streams()
    entered = threading.Event()

    def hang() -> bool:
        entered.set()
        return not gate.wait(TIMEOUT_SECONDS)

    beats = heartbeat(Leases(), streams, stalled=hang, progress=progress)
    beats.start()
    assert entered.wait(TIMEOUT_SECONDS)
    clock.now += 299
    assert progress.stuck() == []
    clock.now += 2
    assert progress.stuck() == ["heartbeat"]
    gate.set()
    until(lambda: not progress.stuck())
    beats.stop(TIMEOUT_SECONDS)
    clock.now += 1000
    assert progress.stuck() == []
