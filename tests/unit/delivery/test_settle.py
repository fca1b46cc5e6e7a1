"""Settle: what becomes of a task that has ended."""

import io
import json

import numpy as np
import pytest

from storage.errors import (
    AccessDenied,
    DeadlineExceeded,
    Internal,
    JobError,
    NotAudio,
    StorageUnavailable,
)
from storage.queue.entries import Ending, Outcome
from storage.wire.messages import Status, Want
from tests.support.settle_desk import PREDICTION, SCORES, Desk
from worker.warning import OF_FILES, AudioWarning


def test_a_result_has_the_fields_of_the_contract() -> None:
    """Exactly the names that readers of the hash rely on, and their text."""
    ending = Desk().ending()
    assert ending.status is Status.DONE
    assert ending.dead_reason == ""
    assert ending.all_fields == {
        "key": "a.wav",
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
    assert ending == Ending(
        Status.FAILED,
        {"key": "a.wav", "error_code": "not_audio", "error": "no audio in it"},
    )
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
    assert ending.fields == {"key": "a.wav", "error_code": "storage_unavailable", "error": "away"}


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
