"""Cancelling jobs in every state, against a real server."""

from typing import Any

import pytest
import redis

from storage.queue.cancellation import Cancellations, Cancelled, Verdict
from storage.queue.entries import Begun, Ending, Outcome
from storage.queue.entries import Verdict as Begin
from storage.queue.submission import Submissions
from storage.wire.messages import Job, Keys, Lane, Status
from tests.support.stream_workers import DONE, Worker, begin_one, result
from worker.delivery.leases import Leases
from worker.pipeline.task import Task

JOB = Job("x", "a.wav")


@pytest.fixture
def cancellations(client: Any, keys: Keys) -> Cancellations:
    """The producers' side."""
    return Cancellations(client, keys=keys, result_ttl_seconds=60, results_maxlen=1000)


@pytest.fixture
def submissions(client: Any, keys: Keys) -> Submissions:
    """A producer."""
    return Submissions(client, keys=keys, max_backlog=1000)


def assert_cancelled_once(client: Any, job: str, run: str = "1") -> None:
    """Nothing of the job is left but its terminal hash, which will expire, and one event."""
    final = result(client, job)
    assert final["status"] == "cancelled"
    assert final["run"] == run
    assert int(final["finished_at_ms"]) > 0
    assert not [name for name in final if name.startswith("_") or name.startswith("error")]
    assert 0 < int(client.pttl(f"emo:result:{job}")) <= 60_000
    events = [
        fields for _, fields in client.xrange("emo:results") if fields[b"run"].decode() == run
    ]
    assert [(e[b"job"].decode(), e[b"status"], e.get(b"error_code")) for e in events] == [
        (job, b"cancelled", None)
    ]
    assert [client.xlen(lane) for lane in Keys("emo").lanes] == [0, 0, 0]
    assert client.keys("emo:delayed*") == []


def test_a_queued_job_is_cancelled(
    client: Any, cancellations: Cancellations, submissions: Submissions, worker: Worker
) -> None:
    """No worker ever sees it."""
    submissions.submit(JOB, Lane.BULK)
    assert cancellations.cancel("x") == Cancelled("x", Verdict.CANCELLED, Status.QUEUED)
    assert_cancelled_once(client, "x")
    assert worker().read(3) == []


@pytest.mark.parametrize(("lane", "before"), [("", ""), (":high", "high-"), (":bulk", "bulk-")])
def test_a_plain_entry_is_cancelled(
    client: Any, cancellations: Cancellations, lane: str, before: str
) -> None:
    """A job enqueued by plain XADD has no hash yet: its id says where it is."""
    entry = client.xadd(f"emo:jobs{lane}", {"key": "a.wav"}).decode()
    outcome = cancellations.cancel(f"{before}{entry}")
    assert outcome == Cancelled(f"{before}{entry}", Verdict.CANCELLED, Status.QUEUED)
    assert_cancelled_once(client, f"{before}{entry}")


def test_a_plain_entry_that_was_delivered_is_cancelled(
    client: Any, cancellations: Cancellations, worker: Worker
) -> None:
    """Between its read and its begin, the worker finds itself fenced."""
    entry = client.xadd("emo:jobs", {"key": "a.wav"}).decode()
    streams = worker()
    delivered = streams.read(1)
    assert cancellations.cancel(entry).verdict is Verdict.CANCELLED
    assert client.xpending("emo:jobs", "workers")["pending"] == 0
    assert [begun.verdict for begun in streams.begin(delivered)] == [Begin.FENCED]
    assert_cancelled_once(client, entry)


@pytest.mark.parametrize(
    "job", ["nobody", "1-1", "high-1-1", "bulk-1-1", "99999999999999999999-0", "no such id", ""]
)
def test_an_unknown_job_is_told(client: Any, cancellations: Cancellations, job: str) -> None:
    """And nothing is written, also where its id looks like an entry's."""
    assert cancellations.cancel(job) == Cancelled(job, Verdict.UNKNOWN, None)
    assert client.keys("*") == []


def test_an_entry_with_a_job_id_of_its_own_is_another_job(
    client: Any, cancellations: Cancellations
) -> None:
    """It is not cancelled under the id that it would have had without."""
    entry = client.xadd("emo:jobs", {"key": "a.wav", "job": "call-1"}).decode()
    assert cancellations.cancel(entry).verdict is Verdict.UNKNOWN
    assert client.xlen("emo:jobs") == 1
    assert client.exists(f"emo:result:{entry}") == 0


def running(client: Any, worker: Worker) -> Begun:
    """A job that a worker has begun."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    return begin_one(worker())


def test_a_running_job_is_cancelled_and_its_result_dropped(
    client: Any, cancellations: Cancellations, worker: Worker
) -> None:
    """Its finish comes too late and changes nothing."""
    begun = running(client, worker)
    assert cancellations.cancel("x") == Cancelled("x", Verdict.CANCELLED, Status.RUNNING)
    assert client.xpending("emo:jobs", "workers")["pending"] == 0
    (outcome,) = worker().finish([(begun, DONE)])
    assert outcome in (Outcome.FENCED, Outcome.ALREADY)
    assert_cancelled_once(client, "x")
    assert "label" not in result(client, "x")


def test_a_running_job_that_is_cancelled_is_not_retried(
    client: Any, cancellations: Cancellations, worker: Worker
) -> None:
    """Nor given back, nor reclaimed, nor promoted."""
    begun = running(client, worker)
    cancellations.cancel("x")
    streams = worker()
    outcome = streams.retry(begun, delay_seconds=0, code="internal", message="")
    assert outcome in (Outcome.FENCED, Outcome.ALREADY)
    assert streams.give_back([(begun.delivery, "x")]) == 0
    assert streams.promote().due == 0
    assert worker("two").reclaim(3).deliveries == []
    assert_cancelled_once(client, "x")


def test_the_worker_notices_by_its_next_heartbeat(
    client: Any, cancellations: Cancellations, worker: Worker
) -> None:
    """The entry is no longer its own, so the task is abandoned wherever it is."""
    begun = running(client, worker)
    leases, task = Leases(), Task(JOB, value=None, ticket=begun)
    leases.hold([begun.delivery])
    leases.begun(begun.delivery, task)
    cancellations.cancel("x")
    leases.lose(worker().heartbeat(leases.renewable(0.0)))
    assert task.abandoned
    assert len(leases) == 0


def test_a_retry_that_waits_is_cancelled(
    client: Any, cancellations: Cancellations, worker: Worker
) -> None:
    """Its place in emo:delayed is gone, and the error of its last try is not why it ended."""
    begun = running(client, worker)
    worker().retry(begun, delay_seconds=0, code="storage_unavailable", message="away")
    assert cancellations.cancel("x") == Cancelled("x", Verdict.CANCELLED, Status.RETRYING)
    assert worker().promote().due == 0
    assert_cancelled_once(client, "x")


def test_a_retry_that_was_promoted_is_cancelled(
    client: Any, cancellations: Cancellations, worker: Worker
) -> None:
    """Its new entry is not the one that its id names."""
    entry = client.xadd("emo:jobs", {"key": "a.wav"}).decode()
    streams = worker()
    streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="")
    assert streams.promote().due == 1
    assert cancellations.cancel(entry).verdict is Verdict.CANCELLED
    assert streams.read(3) == []
    assert_cancelled_once(client, entry)


@pytest.mark.parametrize("status", [Status.DONE, Status.FAILED, Status.EXPIRED, Status.DEAD])
def test_a_job_that_has_ended_stays_as_it_is(
    client: Any, cancellations: Cancellations, worker: Worker, status: Status
) -> None:
    """It is told how it ended."""
    reason = "internal" if status is Status.DEAD else ""
    worker().finish([(running(client, worker), Ending(status, {"error": "why"}, reason))])
    before = client.hgetall("emo:result:x")
    assert cancellations.cancel("x") == Cancelled("x", Verdict.ENDED, status)
    assert client.hgetall("emo:result:x") == before
    assert client.xlen("emo:results") == 1


def test_cancelling_twice_is_cancelling_once(
    client: Any, cancellations: Cancellations, submissions: Submissions
) -> None:
    """Also after a lost reply."""
    submissions.submit(JOB, Lane.NORMAL)
    cancellations.cancel("x")
    assert cancellations.cancel("x") == Cancelled("x", Verdict.ENDED, Status.CANCELLED)
    assert_cancelled_once(client, "x")


def test_a_live_job_whose_entry_was_deleted_is_cancelled(
    client: Any, cancellations: Cancellations, submissions: Submissions
) -> None:
    """It would never have ended by itself."""
    submissions.submit(JOB, Lane.NORMAL)
    client.xtrim("emo:jobs", maxlen=0)
    assert cancellations.cancel("x").verdict is Verdict.CANCELLED
    assert_cancelled_once(client, "x")


def test_repeats_of_a_cancelled_job_are_dropped(
    client: Any, cancellations: Cancellations, worker: Worker
) -> None:
    """An XADD of the same job meets the cancelled one."""
    begun = running(client, worker)
    client.xadd("emo:jobs", {"key": "a.wav", "job": begun.job_id})
    cancellations.cancel("x")
    streams = worker()
    assert [each.verdict for each in streams.begin(streams.read(1))] == [Begin.ENDED]
    assert_cancelled_once(client, "x")


def test_a_cancelled_job_may_be_submitted_again(
    client: Any, cancellations: Cancellations, submissions: Submissions, worker: Worker
) -> None:
    """As a new run, which a worker that still had the old one cannot end."""
    submissions.submit(JOB, Lane.NORMAL)
    old = begin_one(worker("old"))
    cancellations.cancel("x")
    assert submissions.submit(JOB, Lane.NORMAL).enqueued
    assert worker("old").finish([(old, DONE)]) == [Outcome.FENCED]
    assert worker("old").heartbeat([(old.delivery, "x")]) == [old.delivery]
    streams = worker()
    assert streams.finish([(begin_one(streams), DONE)]) == [Outcome.SETTLED]
    assert result(client, "x")["status"] == "done"
    events = [(e[b"run"], e[b"status"]) for _, e in client.xrange("emo:results")]
    assert events == [(b"1", b"cancelled"), (b"2", b"done")]


def test_wait_ends_on_a_cancelled_job(
    client: Any, cancellations: Cancellations, submissions: Submissions
) -> None:
    """It is an end like the others."""
    submissions.submit(JOB, Lane.NORMAL)
    cancellations.cancel("x")
    ((job_id, final),) = submissions.wait(["x"], timeout_seconds=60)
    assert (job_id, final["status"]) == ("x", "cancelled")


def test_a_key_of_the_wrong_type_stops_it_before_it_writes(
    client: Any, cancellations: Cancellations, submissions: Submissions
) -> None:
    """The error names the key."""
    submissions.submit(JOB, Lane.NORMAL)
    client.set("emo:results", "spoilt")
    with pytest.raises(redis.ResponseError, match="emo:results must be a stream"):
        cancellations.cancel("x")
    assert result(client, "x")["status"] == "queued"
    assert client.xlen("emo:jobs") == 1
