"""Settle: what becomes of a task that has ended."""

import io
import json
import threading

import numpy as np
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from storage.errors import (
    AccessDenied,
    DeadlineExceeded,
    Internal,
    JobError,
    NotAudio,
    SpoolUnavailable,
    StorageUnavailable,
)
from storage.queue.entries import Ending, Outcome
from storage.wire.messages import Status, Want
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.settle_desk import PREDICTION, SCORES, Desk
from worker.delivery import settle as settle_module
from worker.fitness.guard import Excused
from worker.fitness.self_test import Finding
from worker.warning import OF_FILES, AudioWarning


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is looked at again after a millisecond."""
    monkeypatch.setattr(settle_module, "_OUTAGE_WAIT_SECONDS", 0.001)


def test_a_result_has_the_fields_of_the_contract() -> None:
    """Exactly the names that readers of the hash rely on, and their text."""
    ending = Desk().ending()
    assert ending.status is Status.DONE
    assert ending.dead_reason == ""
    assert ending.fields == {
        "label": "happy",
        "score": "0.75",
        "scores": '{"happy":0.75,"sad":0.25}',
        "duration_s": "2.5",
        "model": "tiny",
        "model_revision": "r1",
        "device": "cpu",
        "dtype": "float32",
        "queue_ms": "3.1",
        "fetch_ms": "2.0",
        "decode_ms": "1.0",
        "normalize_ms": "0.5",
        "infer_ms": "40.0",
        "batch_clips": "7",
    }


@pytest.mark.parametrize("error", [None, StorageUnavailable("away")])
def test_a_heartbeat_meanwhile_finds_nothing_lost(error: JobError | None) -> None:
    """The server has settled the entry, and its reply is still on its way to us."""
    desk = Desk()
    task = desk.task(error=error)
    delivery = task.ticket.delivery
    lost = []
    desk.streams.meanwhile = lambda: lost.extend(desk.leases.lose([delivery]))
    desk.settle([task])
    assert (lost, task.abandoned) == ([], False)
    assert not desk.leases.holds(delivery)


@pytest.mark.parametrize(
    ("warnings", "untrained", "warning"),
    [
        ((AudioWarning.TRUNCATED,), False, "truncated"),
        ((), True, "untrained_model"),
        (OF_FILES, True, "truncated,damaged,trailing_data,untrained_model"),
    ],
)
def test_warnings_say_what_to_doubt(
    warnings: tuple[AudioWarning, ...], untrained: bool, warning: str
) -> None:
    """What is wrong with a file, and scores of random weights, in that order."""
    ending = Desk(untrained=untrained).ending(warnings=warnings)
    assert ending.fields["warning"] == warning


def test_the_timeline_is_given_where_it_is_asked_for() -> None:
    """Each window's begin, end and scores, as JSON."""
    ending = Desk().ending(want=[Want.TIMELINE])
    assert json.loads(str(ending.fields["timeline"])) == [
        {"start_s": 0.0, "end_s": 1.2, "scores": SCORES},
        {"start_s": 1.2, "end_s": 2.5, "scores": {"happy": 0.123457, "sad": 0.876543}},
    ]


def test_outputs_are_stored_and_their_keys_returned() -> None:
    """Arrays go to the output store as .npy files; nothing is stored that nobody asked for."""
    desk = Desk()
    ending = desk.ending(want=[Want.EMBEDDING, Want.FRAMES])
    assert ending.fields["embedding_key"] == "out/x.embedding.npy"
    assert ending.fields["frames_key"] == "out/x.frames.npy"
    stored = {key: np.load(io.BytesIO(data)) for key, data in desk.outputs.objects.items()}
    assert set(stored) == {"out/x.embedding.npy", "out/x.frames.npy"}
    assert np.array_equal(stored["out/x.embedding.npy"], PREDICTION.embedding)
    assert np.array_equal(stored["out/x.frames.npy"], np.array([[1, 2], [3, 4]]))
    plain = Desk()
    plain.ending()
    assert plain.outputs.objects == {}


def test_a_later_run_has_outputs_of_its_own() -> None:
    """Given a worker that is late with run 1, what run 2 wrote stays as it is; no two jobs meet."""
    desk = Desk()
    want = [Want.EMBEDDING, Want.FRAMES]
    desk.settle([desk.task("x", run=2, want=want)])
    later = set(desk.outputs.objects)
    desk.settle([desk.task("x", want=want), desk.task("x.2", want=want)])
    assert later == {"out/x.embedding.2.npy", "out/x.frames.2.npy"}
    assert len(desk.outputs.objects) == 6
    keys = [ending.fields["embedding_key"] for _, ending in desk.streams.finished]
    assert keys == ["out/x.embedding.2.npy", "out/x.embedding.npy", "out/x.2.embedding.npy"]


def test_what_is_settled_is_held_no_more() -> None:
    """Done, failed, dead or put aside: nothing is renewed afterwards."""
    desk = Desk()
    errors = [None, NotAudio("no"), Internal("fault")]
    desk.settle([desk.task(f"j{number}", error=error) for number, error in enumerate(errors)])
    desk.settle([desk.task("dead", error=Internal("fault"), attempts=3)])
    assert len(desk.leases) == 0
    assert desk.sample("jobs_ended_total", status="done", error_code="") == 1
    assert desk.sample("jobs_ended_total", status="failed", error_code="not_audio") == 1
    assert desk.sample("jobs_ended_total", status="dead", error_code="internal") == 1
    assert desk.sample("jobs_retried_total", error_code="internal") == 1
    assert desk.sample("audio_seconds_total") == 2.5


def test_a_permanent_error_fails_the_job_at_once() -> None:
    """The reason is in the hash, and there is no second attempt."""
    desk = Desk()
    ending = desk.ending(error=NotAudio("no audio in it"))
    assert ending == Ending(Status.FAILED, {"error_code": "not_audio", "error": "no audio in it"})
    assert desk.streams.retried == []


def test_a_missed_deadline_ends_the_job_as_expired() -> None:
    """Neither failed nor dead."""
    assert Desk().ending(error=DeadlineExceeded("late")).status is Status.EXPIRED


@pytest.mark.parametrize(("attempts", "least", "most"), [(1, 0.5, 1.0), (2, 1.0, 2.0)])
def test_a_retryable_error_is_tried_again(attempts: int, least: float, most: float) -> None:
    """Below EMO_MAX_ATTEMPTS, after a wait that doubles and is never the same for all."""
    desk = Desk()
    desk.settle([desk.task(error=StorageUnavailable("away"), attempts=attempts)])
    ((begun, delay, code, message),) = desk.streams.retried
    assert (begun.job_id, code, message) == ("x", "storage_unavailable", "away")
    assert least <= delay <= most
    assert desk.streams.finished == []


def test_the_wait_for_a_retry_has_a_limit() -> None:
    """However many attempts are allowed, a job comes back within a minute."""
    desk = Desk(max_attempts=100)
    desk.settle([desk.task(error=Internal("fault"), attempts=50)])
    assert 30 <= desk.streams.retried[0][1] <= 60


def test_the_last_attempt_makes_a_dead_letter() -> None:
    """At EMO_MAX_ATTEMPTS the job is dead, with the code as the letter's reason."""
    ending = Desk().ending(error=StorageUnavailable("away"), attempts=3)
    assert ending.status is Status.DEAD
    assert ending.dead_reason == "storage_unavailable"
    assert ending.fields == {"error_code": "storage_unavailable", "error": "away"}


def test_a_long_message_is_cut() -> None:
    """An error that quotes a whole file does not fill the server."""
    ending = Desk().ending(error=NotAudio("x" * 10_000))
    assert len(str(ending.fields["error"])) == 500


def test_a_store_that_is_away_makes_a_retry() -> None:
    """Where the outputs cannot be stored now, the job is not done."""
    desk = Desk()
    desk.outputs.error = StorageUnavailable("away")
    desk.settle([desk.task(want=[Want.EMBEDDING])])
    assert [code for _, _, code, _ in desk.streams.retried] == ["storage_unavailable"]
    assert desk.streams.finished == []


def test_a_store_that_refuses_fails_the_job() -> None:
    """Outputs that may not be written will not be the next time."""
    desk = Desk()
    desk.outputs.error = AccessDenied("read-only")
    ending = desk.ending(want=[Want.FRAMES])
    assert (ending.status, ending.fields["error_code"]) == (Status.FAILED, "access_denied")


def test_a_result_that_cannot_be_written_down_is_tried_again() -> None:
    """A fault of ours in one task leaves the rest of its batch alone."""
    desk = Desk()
    desk.settle([desk.task("a"), desk.task("bad", value=object()), desk.task("c")])
    assert [(begun.job_id, code) for begun, _, code, _ in desk.streams.retried] == [
        ("bad", "internal")
    ]
    assert [begun.job_id for begun, _ in desk.streams.finished] == ["a", "c"]


def test_a_fenced_result_is_counted_and_forgotten() -> None:
    """Another worker has the entry: the result is dropped here, and not counted as done."""
    desk = Desk()
    desk.streams.outcomes = {"a": Outcome.FENCED, "b": Outcome.FENCED, "c": Outcome.ALREADY}
    desk.settle([desk.task("a"), desk.task("b", error=Internal("fault")), desk.task("c")])
    assert desk.sample("finishes_fenced_total") == 1
    assert desk.sample("retries_fenced_total") == 1
    assert desk.sample("jobs_ended_total", status="done", error_code="") == 0
    assert desk.sample("jobs_retried_total", error_code="internal") == 0
    assert len(desk.leases) == 0


def test_a_retry_past_the_deadline_is_counted_as_expired() -> None:
    """The server ends the job instead of putting it aside."""
    desk = Desk()
    desk.streams.outcomes = {"x": Outcome.EXPIRED}
    desk.settle([desk.task(error=Internal("fault"))])
    assert desk.sample("jobs_ended_total", status="expired", error_code="deadline_exceeded") == 1
    assert desk.sample("jobs_retried_total", error_code="internal") == 0


def test_an_abandoned_task_says_nothing() -> None:
    """Its entry is another worker's: not one command is sent, nor an output stored."""
    desk = Desk()
    task = desk.task(want=[Want.EMBEDDING])
    task.abandoned = True
    desk.settle([task])
    assert not desk.streams.asked.is_set()
    assert desk.outputs.objects == {}
    assert desk.sample("finishes_fenced_total") == 1


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
    dead = [ending for _, ending in desk.streams.finished]
    tried_again = [(code, message) for _, _, code, message in desk.streams.retried]
    assert dead == [Ending(Status.DEAD, counted, "storage_unavailable")] * ends
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
