"""What is settled while Redis or this machine cannot."""

import threading

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from storage.errors import (
    Internal,
    JobError,
    NotAudio,
    SpoolUnavailable,
    StorageUnavailable,
)
from storage.queue.entries import Ending
from storage.wire.messages import Status, Want
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.settle_desk import Desk
from worker.delivery import settle as settle_module
from worker.fitness.guard import Excused
from worker.fitness.self_test import Finding


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is looked at again after a millisecond."""
    monkeypatch.setattr(settle_module, "_OUTAGE_WAIT_SECONDS", 0.001)


@pytest.mark.parametrize("error", [None, Internal("fault")])
def test_an_outage_is_waited_out(error: JobError | None) -> None:
    """Redis away or full: the result or the retry is kept, and told when it is back."""
    desk = Desk()
    desk.streams.errors = [RedisConnectionError("reset"), ResponseError("OOM command not allowed")]
    desk.settle([desk.task(error=error)])
    assert len(desk.streams.finished) + len(desk.streams.retried) == 1
    assert len(desk.leases) == 0


@pytest.mark.parametrize("error", [None, Internal("fault")])
def test_a_stop_ends_the_wait(error: JobError | None) -> None:
    """What is unsettled when the worker stops stays held, so that it is given back."""
    desk = Desk()
    desk.streams.errors = [RedisConnectionError("reset")] * 100_000
    waiting = threading.Thread(target=desk.settle, args=[[desk.task(error=error)]], daemon=True)
    waiting.start()
    assert desk.streams.asked.wait(TIMEOUT_SECONDS)
    assert waiting.is_alive()
    desk.settle.stop()
    until(lambda: not waiting.is_alive())
    assert desk.streams.finished == []
    assert len(desk.leases) == 1


def test_an_outage_is_told_once() -> None:
    """Not with every look at it; the next outage is told again."""
    desk = Desk()
    with capture_logs() as logs:
        for job in ("a", "b"):
            desk.streams.errors = [RedisConnectionError("reset")] * 3
            desk.settle([desk.task(job)])
    assert [each["event"] for each in logs].count("settle.waiting") == 2


def test_after_a_stop_what_can_be_settled_still_is() -> None:
    """The drain's last results are worth one try."""
    desk = Desk()
    desk.settle.stop()
    assert desk.ending().status is Status.DONE


def test_what_settle_cannot_do_lapses_alone() -> None:
    """An unexpected error leaves its job to the end of the lease, and the rest of the batch ends.

    It stays held: what takes it over learns from the heartbeat that nobody died of it.
    """
    desk = Desk()
    desk.streams.faulty = {"b"}
    tasks = [desk.task(job_id) for job_id in "abc"]
    with capture_logs() as logs:
        desk.settle(tasks)
    assert [begun.job_id for begun, _ in desk.streams.finished] == ["a", "c"]
    assert desk.leases.renewable(0.0) == []
    assert desk.leases.lapsing(0.0) == [(tasks[1].ticket.delivery, "b")]
    failed = [entry["jobs"] for entry in logs if entry["event"] == "settle.failed"]
    assert failed == [["a", "b", "c"], ["b"]]


def test_what_was_settled_before_an_error_is_not_settled_twice() -> None:
    """A retry that was written down stays the only one, though the rest of its batch fails."""
    desk = Desk()
    desk.streams.faulty = {"b"}
    with capture_logs():
        desk.settle([desk.task("a", error=Internal("fault")), desk.task("b")])
    assert [begun.job_id for begun, *_ in desk.streams.retried] == ["a"]
    assert desk.sample("jobs_retried_total", error_code="internal") == 1


def test_what_the_server_refuses_is_asked_for_again_alone() -> None:
    """The rest of the batch has ended: it is counted once, and not asked for twice."""
    desk = Desk()
    desk.streams.refusals = {"b": 2}
    desk.settle([desk.task("a"), desk.task("b"), desk.task("c")])
    assert [begun.job_id for begun, _ in desk.streams.finished] == ["a", "c", "b"]
    assert desk.sample("jobs_ended_total", status="done", error_code="") == 3
    assert desk.sample("finishes_fenced_total") == 0


SICK = Excused(Finding(SpoolUnavailable("no spool")), StorageUnavailable("no mount"))


AWAY = Excused(Finding(StorageUnavailable("nobody"), away=True), StorageUnavailable("no reply"))


def test_an_excused_job_goes_back_as_it_was() -> None:
    """It is neither retried nor ended, even on its last try; what is beside it ends as it must."""
    desk = Desk()
    tasks = [
        desk.task("sick", error=SICK, attempts=3),
        desk.task("done"),
        desk.task("away", error=AWAY, attempts=3),
        desk.task("failed", error=NotAudio("no")),
    ]
    desk.settle(tasks)
    assert desk.streams.excused == [("sick", True), ("away", False)]
    assert desk.streams.retried == []
    assert [begun.job_id for begun, _ in desk.streams.finished] == ["done", "failed"]
    assert len(desk.leases) == 0
    assert desk.sample("jobs_excused_total", fault="sick") == 1
    assert desk.sample("jobs_excused_total", fault="away") == 1


@pytest.mark.parametrize(("attempts", "ends"), [(1, 0), (3, 1)])
def test_one_that_was_excused_too_often_counts(attempts: int, ends: int) -> None:
    """With the error that it failed of here: it is tried again, and is dead at last."""
    desk = Desk()
    desk.streams.often.add("x")
    desk.settle([desk.task("x", error=SICK, attempts=attempts)])
    counted = {"error_code": "storage_unavailable", "error": "no mount"}
    fields = {"key": "a.wav", **counted}
    dead = [ending for _, ending in desk.streams.finished]
    tried_again = [(code, message) for _, _, code, message in desk.streams.retried]
    assert dead == [Ending(Status.DEAD, fields, "storage_unavailable")] * ends
    assert tried_again == [tuple(counted.values())] * (1 - ends)
    assert desk.sample("jobs_excused_total", fault="sick") == 0


def test_outputs_that_a_sick_machine_cannot_store_are_excused() -> None:
    """The result is lost with it, and the job runs again elsewhere."""
    desk = Desk()
    desk.outputs.error = SICK
    desk.settle([desk.task(want=[Want.EMBEDDING])])
    assert desk.streams.excused == [("x", True)]
    assert desk.streams.finished == []


def test_excuses_wait_for_redis() -> None:
    """Given back when it answers, and not before."""
    desk = Desk()
    desk.streams.errors = [RedisConnectionError("reset")]
    with capture_logs():
        desk.settle([desk.task(error=SICK)])
    assert desk.streams.excused == [("x", True)]
