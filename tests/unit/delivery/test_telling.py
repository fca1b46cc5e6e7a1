"""When a worker says how it is, and what."""

import threading
from collections.abc import Iterator, Mapping
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from storage.errors import Internal
from storage.queue.workers import State, Value, Words
from tests.support.fitness import Fitness
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.delivery.telling import Telling, about_worker
from worker.fitness.breaker import Breaker
from worker.fitness.self_test import Finding
from worker.telemetry.account import Account
from worker.telemetry.metrics import Metrics


class Heard(Words):
    """Keeps what is told, in place of Redis."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Value]] = []
        self.errors: list[Exception] = []
        self.called = threading.Event()

    def tell(self, told: Mapping[str, Value]) -> None:
        """Keep, or fail."""
        self.called.set()
        if self.errors:
            raise self.errors.pop(0)
        self.told.append(told)

    @property
    def states(self) -> list[Any]:
        """In order."""
        return [told["state"] for told in self.told]


class Host:
    """A telling and what it looks at."""

    def __init__(self, lease_seconds: float = 60) -> None:
        self.heard, self.stuck, self.connected = Heard(), False, True
        self.metrics = Metrics()
        self.fitness = Fitness()
        self.breaker = Breaker(self.fitness, metrics=self.metrics)
        self.telling = Telling(
            self.heard,
            Account(self.metrics),
            self.breaker,
            about=about_worker({"model": "m"}, {"EMO_WINDOW_SECONDS": "30"}),
            lease_seconds=lease_seconds,
            stuck=lambda: self.stuck,
            connected=lambda: self.connected,
        )

    def told(self) -> Mapping[str, Value]:
        """What it tells now."""
        self.telling.tell()
        return self.heard.told[-1]


@pytest.fixture
def host() -> Iterator[Host]:
    """One with leases of a minute."""
    host = Host()
    with capture_logs():
        yield host


def test_what_is_new_is_told_at_once(host: Host) -> None:
    """Not a quarter of a lease later."""
    host.telling.start()
    until(lambda: host.heard.states == ["warming"])
    host.telling.say(State.READY)
    until(lambda: host.heard.states == ["warming", "ready"])
    host.telling.say(State.DRAINING)
    until(lambda: host.heard.states[2:] == ["draining"])
    host.telling.stop(TIMEOUT_SECONDS)
    assert not host.telling._thread.is_alive()


def test_why_it_takes_nothing_is_told(host: Host) -> None:
    """What weighs most first; while it warms up or drains, that is what it does."""
    assert host.told()["state"] == "warming"
    host.telling.say(State.READY)
    assert "sickness" not in host.told()
    host.connected = False
    assert host.told()["state"] == "redis_away"
    for away, state in ((True, "store_away"), (False, "sick")):
        host.breaker._finding = Finding(Internal("no room"), away)
        told = host.told()
        assert (told["state"], told["sickness"]) == (state, "no room")
    host.stuck = True
    assert host.told()["state"] == "stuck"
    host.telling.say(State.DRAINING)
    assert host.told()["state"] == "draining"


def test_workers_with_the_same_settings_have_the_same_fingerprint() -> None:
    """In whichever order they are listed."""
    same = [
        about_worker({}, dict(each))["fingerprint"]
        for each in ([("a", "1"), ("b", "2")], [("b", "2"), ("a", "1")])
    ]
    assert same[0] == same[1]
    assert about_worker({}, {"a": "1", "b": "3"})["fingerprint"] != same[0]


@pytest.mark.parametrize(
    ("error", "said"), [(RedisConnectionError("reset"), 1), (ValueError("boom"), 2)]
)
def test_it_outlives_errors(error: Exception, said: int) -> None:
    """An outage is said once; a fault of ours each time."""
    host = Host(lease_seconds=0.02)
    host.heard.errors = [error, error]
    with capture_logs() as logs:
        host.telling.start()
        until(lambda: host.heard.told)
        host.telling.stop(TIMEOUT_SECONDS)
    assert [entry["event"] for entry in logs] == ["worker.not_told"] * said


def test_rates_are_those_of_the_time_between_two_words(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs, audio, latency, tapes and the device; without jobs there is no latency."""
    host.told()
    monkeypatch.setattr("worker.telemetry.account._SHORTEST_SECONDS", 0.0)
    metrics = host.metrics
    metrics.ended.labels("done", "").inc(8)
    metrics.ended.labels("failed", "not_audio").inc(2)
    metrics.audio_seconds.inc(40)
    for _ in range(10):
        metrics.job_seconds.observe(0.5)
        metrics.queue_seconds.observe(2)
    metrics.worked(0.001, 900, 1000)
    told = cast(dict[str, float], host.told())
    assert (told["done"], told["not_done"]) == (8, 2)
    assert told["clips_per_s"] == pytest.approx(8 / told["period_s"], rel=1e-4)
    assert told["audio_s_per_s"] == pytest.approx(40 / told["period_s"], rel=1e-4)
    assert told["device_share"] == pytest.approx(0.001 / told["period_s"], rel=1e-4)
    assert (told["latency_ms"], told["queue_ms"], told["tape_fill"]) == (500, 2000, 0.9)
    told = cast(dict[str, float], host.told())
    assert told["clips_per_s"] == 0
    assert "latency_ms" not in told
    assert "tape_fill" not in told
