"""The breaker: when it opens and closes, and whom it blames."""

import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from storage.errors import Internal, SpoolUnavailable, StorageUnavailable
from tests.support.fitness import Fitness
from tests.support.intake_host import Clock
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.fitness import breaker as breaker_module
from worker.fitness.breaker import Breaker
from worker.fitness.self_test import Finding
from worker.telemetry.metrics import Metrics

SICK = Finding(SpoolUnavailable("the spool is gone"))
AWAY = Finding(StorageUnavailable("nobody answers"), away=True)


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    """What is logged."""
    with capture_logs() as logged:
        yield logged


class Desk:
    """A breaker, with what is around it."""

    def __init__(self, **options: float) -> None:
        self.fitness = Fitness()
        self.clock = Clock()
        self.metrics = Metrics()
        self.breaker = Breaker(self.fitness, metrics=self.metrics, clock=self.clock, **options)

    def gauge(self, name: str) -> float:
        """A gauge's value."""
        return self.metrics.registry.get_sample_value(f"emostream_{name}") or 0.0


def test_a_fault_on_a_well_machine_is_the_jobs(logs: list[EventDict]) -> None:
    """Everything is tested, passes, and nothing opens."""
    desk = Desk()
    assert desk.breaker.blame(desk.clock()) is None
    assert desk.fitness.tests == ["everything"]
    assert not desk.breaker.open
    assert logs == []


@pytest.mark.parametrize(
    ("finding", "gauge", "opened", "closed"),
    [
        (SICK, "sick", "worker.sick", "worker.well"),
        (AWAY, "store_away", "store.away", "store.back"),
    ],
)
def test_it_opens_with_a_finding_and_closes_without(
    logs: list[EventDict], finding: Finding, gauge: str, opened: str, closed: str
) -> None:
    """Each is said once, and shown as a gauge, and the reason is told."""
    desk = Desk()
    desk.fitness.found = finding
    assert desk.breaker.blame(desk.clock()) is finding
    assert desk.breaker.open
    assert desk.gauge(gauge) == 1
    desk.breaker.look()
    desk.clock.now += 5
    desk.fitness.found = None
    desk.breaker.look()
    assert not desk.breaker.open
    assert desk.gauge(gauge) == 0
    assert [event["event"] for event in logs] == [opened, closed]
    assert logs[0]["reason"] == finding.reason
    assert logs[1]["after_seconds"] == 5


def test_a_store_that_comes_back_to_a_sick_machine(logs: list[EventDict]) -> None:
    """What is at fault now is what is said, and shown."""
    desk = Desk()
    desk.fitness.found = AWAY
    desk.breaker.blame(desk.clock())
    desk.fitness.found = SICK
    desk.breaker.look()
    assert [event["event"] for event in logs] == ["store.away", "worker.sick"]
    assert (desk.gauge("sick"), desk.gauge("store_away")) == (1, 0)


def test_while_it_is_open_nobody_tests_again() -> None:
    """A hundred jobs that fail of one outage ask the server once."""
    desk = Desk()
    desk.fitness.found = AWAY
    assert {desk.breaker.blame(desk.clock()) for _ in range(100)} == {AWAY}
    assert desk.fitness.tests == ["everything"]


def test_a_call_that_overlapped_with_an_outage_is_excused() -> None:
    """The store came back between its fault and the test; a call that began later has no excuse."""
    desk = Desk()
    began = desk.clock()
    desk.clock.now += 1
    desk.fitness.found = AWAY
    desk.breaker.blame(began)
    desk.fitness.found = None
    desk.clock.now += 1
    desk.breaker.look()
    desk.clock.now += 1
    assert desk.breaker.blame(began) is AWAY
    assert desk.breaker.blame(desk.clock()) is AWAY  # by a connection from before, most likely
    desk.clock.now += 1
    assert desk.breaker.blame(desk.clock()) is None


def test_calls_that_fail_together_share_a_test() -> None:
    """One that ended after a fault was answered after it: the store served by then."""
    desk = Desk()
    desk.fitness.free.clear()
    blamed: list[Finding | None] = []
    threads = [
        threading.Thread(target=lambda: blamed.append(desk.breaker.blame(0.0)), daemon=True)
        for _ in range(8)
    ]
    failed_at = desk.clock.now
    for thread in threads:
        thread.start()
    until(lambda: desk.fitness.tests)
    desk.clock.now = failed_at + 1
    desk.fitness.free.set()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    assert len(blamed) == 8
    assert len(desk.fitness.tests) < 8


def test_it_looks_by_itself_and_closes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that vanishes is found before a job fails of it, and one that is back as well."""
    monkeypatch.setattr(breaker_module, "_CLOSED_SECONDS", 0.001)
    monkeypatch.setattr(breaker_module, "_OPEN_SECONDS", 0.001)
    with capture_logs():
        desk = Desk()
        desk.breaker.start()
        desk.fitness.found = SICK
        until(lambda: desk.breaker.open)
        assert not desk.breaker.wait_until_closed(0.001)
        assert "everything" not in desk.fitness.tests[:1]
        desk.fitness.found = None
        assert desk.breaker.wait_until_closed(TIMEOUT_SECONDS)
        desk.breaker.stop()
        desk.breaker._thread.join(TIMEOUT_SECONDS)


def test_a_test_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount whose server is gone answers nothing, ever: no thread of the worker waits for it."""
    monkeypatch.setattr(breaker_module, "_OPEN_SECONDS", 0.001)
    with capture_logs():
        desk = Desk(longest_seconds=0.01)
        desk.fitness.free.clear()
        finding = desk.breaker.blame(desk.clock())
        assert finding
        assert isinstance(finding.error, Internal)
        desk.breaker.look()
        assert len(desk.fitness.tests) == 1  # no other begins beside it
        desk.fitness.free.set()
        desk.breaker.start()
        until(lambda: not desk.breaker.open)
        desk.breaker.stop()


def test_a_fault_of_the_test_itself_stops_nobody(logs: list[EventDict]) -> None:
    """It is logged, and the fault counts as it would without a test."""
    desk = Desk()
    desk.fitness.fault = ValueError("boom")
    assert desk.breaker.blame(desk.clock()) is None
    assert [event["event"] for event in logs] == ["fitness.failed"]


def test_a_test_that_cannot_be_started_is_a_finding(
    logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a thread to spare is at fault, and tested again as soon as it has one."""
    start, faults = threading.Thread.start, [RuntimeError("can't start new thread")]

    def faulty(thread: threading.Thread) -> None:
        if thread.name == "self-test" and faults:
            raise faults.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", faulty)
    desk = Desk()
    finding = desk.breaker.blame(desk.clock())
    assert finding
    assert not finding.away
    assert "can't start new thread" in finding.reason
    assert desk.breaker.open
    desk.breaker.look()
    assert not desk.breaker.open
    assert desk.fitness.tests == ["everything"]


def test_a_look_that_fails_is_not_the_last(
    logs: list[EventDict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open nobody else would close."""
    monkeypatch.setattr(breaker_module, "_OPEN_SECONDS", 0.001)
    desk = Desk()
    desk.fitness.found = SICK
    desk.breaker.look()
    faults = [ValueError("boom")]

    def faulty(value: float) -> None:
        if not desk.breaker.open and faults:
            raise faults.pop()

    desk.breaker.start()
    monkeypatch.setattr(desk.metrics.sick, "set", faulty)
    desk.fitness.found = None
    until(lambda: not faults)
    desk.fitness.found = SICK
    until(lambda: desk.breaker.open)
    desk.fitness.found = None
    assert desk.breaker.wait_until_closed(TIMEOUT_SECONDS)
    desk.breaker.stop()
    desk.breaker._thread.join(TIMEOUT_SECONDS)
    assert "breaker.failed" in [event["event"] for event in logs]
