"""What batches count where their jobs are cancelled, taken over, or put aside."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from storage.queue.entries import Verdict
from tests.support.batches import Side
from tests.support.polling import until
from tests.support.stream_workers import DONE, FAILED, Worker, begin_one, reclaim_one, result


@pytest.mark.parametrize("before", ["queued", "running", "delayed", "by its entry"])
def test_a_cancelled_job_counts(side: Side, before: str) -> None:
    """Wherever it was."""
    entry = side.xadd("x") if before != "queued" else ""
    match before:
        case "queued":
            side.submit("x")
        case "running":
            side.begin()
        case "delayed":
            (begun,) = side.begin()
            side.one.retry(begun, delay_seconds=60, code="internal", message="x")
    job = "x"
    if before == "by its entry":
        side.client.delete("emo:jobs")
        side.one.create_group()
        entry = side.client.xadd("emo:jobs", {"key": "a.wav", "batch": "b"}).decode()
        job = entry
    side.cancellations.cancel(job)
    assert side.counts() == {"jobs": 1, "cancelled": 1}
    assert side.begin() == []


def test_crashes_retries_and_takeovers_count_no_job_twice(side: Side) -> None:
    """One job, however often it is begun; and its crash loop ends it once."""
    side.xadd("x")
    begun = begin_one(side.one)
    side.one.retry(begun, delay_seconds=0, code="internal", message="x")
    assert side.one.promote().due == 1
    begin_one(side.one)
    taken = reclaim_one(side.two)
    assert [each.verdict for each in side.two.begin([taken])] == [Verdict.RUN]
    assert side.two.begin([taken])[0].verdict is Verdict.RUN, "after a lost reply"
    assert side.counts() == {"jobs": 1}
    side.two.give_back([(taken, "x")])
    taken = reclaim_one(side.one)
    (begun,) = side.one.begin([taken])
    side.one.finish([(begun, DONE)])
    side.one.finish([(begun, DONE)])
    assert side.counts() == {"jobs": 1, "done": 1}


def test_an_entry_that_nobody_began_counts_when_it_is_given_up(side: Side, worker: Worker) -> None:
    """Delivered ten times, or gone from its lane."""
    entry = side.xadd("x")
    side.one.read(1)
    side.client.xclaim("emo:jobs", "workers", "one", 0, [entry], retrycount=10, justid=True)
    until(lambda: side.two.reclaim(10).dead == ["x"])
    assert side.counts() == {"jobs": 1, "dead": 1}
    gone = side.client.xadd("emo:jobs", {"key": "a.wav", "batch": "b"}).decode()
    begin_one(side.one)
    side.client.xdel("emo:jobs", gone)
    until(lambda: side.two.reclaim(10).gone)
    assert side.counts() == {"jobs": 2, "dead": 1, "failed": 1}


def test_a_repeat_that_is_taken_over_counts(side: Side) -> None:
    """Given a worker that died before it began it."""
    side.xadd("x")
    running = begin_one(side.one)
    side.xadd("x", "c")
    side.two.read(1)
    side.one.finish([(running, DONE)])
    until(lambda: (side.one.reclaim(10), side.client.xlen("emo:jobs") == 0)[1])
    assert side.counts("c") == {"repeated": 1}


def test_a_cancelled_batch_ends_its_jobs_where_they_are_met(side: Side, client: Any) -> None:
    """At begin, by the heartbeat, and when a retry is due."""
    for job in ("running", "delayed", "done"):
        side.xadd(job)
    begun = {each.job_id: each for each in side.begin()}
    side.one.retry(begun["delayed"], delay_seconds=0, code="internal", message="x")
    side.one.finish([(begun["done"], DONE)])
    side.submit("queued")
    side.submit("free", None)
    assert side.cancel() == 3
    assert side.cancel() == 3, "it can be repeated"
    assert side.one.promote().due == 1
    held = [(begun["running"].delivery, "running")]
    assert side.one.heartbeat(held) == [begun["running"].delivery]
    verdicts = {each.job_id: each.verdict for each in side.begin()}
    assert verdicts == {"queued": Verdict.CANCELLED, "free": Verdict.RUN}
    side.xadd("late")
    side.begin()
    assert side.counts() == {"jobs": 5, "done": 1, "cancelled": 4}
    assert "error" not in result(client, "delayed")
    side.one.finish([(begun["running"], DONE)])
    assert result(client, "running")["status"] == "cancelled"
    assert [client.xlen("emo:jobs"), client.zcard("emo:delayed")] == [1, 0]
    assert side.seal(5).complete
    assert side.cancel() is None


def test_a_job_of_a_cancelled_batch_can_run_again(side: Side) -> None:
    """A cancellation is of one run: who submits it again afterwards wants it."""
    side.submit("x")
    side.seal(1)
    side.cancel()
    side.begin()
    assert side.state().complete
    side.submit("x")
    side.end()
    assert side.counts() == {"jobs": 1, "done": 1}
    assert side.events() == [("b", "1"), ("b", "2")]


def test_a_batch_may_be_cancelled_before_anything_of_it_is_known(side: Side) -> None:
    """Its jobs were sent by XADD."""
    side.xadd("x")
    assert side.cancel() == 0
    side.begin()
    assert side.counts() == {"jobs": 1, "cancelled": 1}


def test_foreign_keys_stop_no_batch(side: Side, client: Any) -> None:
    """What was put under a batch's names is deleted; where its stream should be, nothing begins."""
    client.set("emo:batch:b", "x")
    client.set("emo:batch-failures:b", "x")
    client.set("emo:batch-repeats:c", "x")
    side.submit("x")
    side.end(FAILED)
    side.submit("y")
    side.submit("y", "c")
    assert (side.counts(), side.counts("c")) == ({"jobs": 2, "failed": 1}, {"repeated": 1})
    assert side.failures() == ["x failed not_audio"]
    client.hset("emo:batch:b", mapping={"jobs": "many", "done": "-3", "total": "x"})
    side.end()
    client.set("emo:batches", "x")
    side.xadd("z")
    delivered = side.one.read(1)
    with pytest.raises(ResponseError, match="WRONGTYPE emo:batches must be a stream"):
        side.one.begin(delivered)
    client.delete("emo:batches")
    assert side.one.begin(delivered)[0].verdict is Verdict.RUN


def test_a_lane_that_was_put_aside_counts_each_job_once(side: Side, client: Any) -> None:
    """Those that were cancelled while they lay there, and repeats, too."""
    side.submit("submitted")
    side.submit("cancelled")
    side.xadd("repeated", "c")
    running = side.begin()
    for each in running:
        side.one.give_back([(each.delivery, each.job_id)])
    side.xadd("repeated")
    client.xadd("emo:jobs", {"key": "a.wav", "batch": "b"})
    client.xadd("emo:jobs", {"key": "a.wav", "job": "last", "batch": "b"}, id="99999999999999-0")
    client.rename("emo:jobs", "emo:aside:normal")
    client.xgroup_destroy("emo:aside:normal", "workers")
    client.xgroup_create("emo:aside:normal", "rescuers", "0")
    side.one.create_group()
    side.cancellations.cancel("cancelled")
    side.one.healing.heal()
    side.end()
    assert side.counts() == {"jobs": 4, "repeated": 1, "done": 3, "cancelled": 1}
    assert side.counts("c") == {"jobs": 1, "done": 1}
