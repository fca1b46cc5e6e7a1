"""What batches count, over whatever becomes of their jobs."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from storage.queue.batches import Batching, BatchState, BatchStatus, WrongTotal
from storage.queue.cancellation import Cancellations, Ends
from storage.queue.dead import DeadLetters, Selection
from storage.queue.entries import Begun, Ending, Verdict
from storage.queue.steps import Driver
from storage.queue.submission import Submissions
from storage.wire.messages import Job, Keys, Lane, Status
from tests.support.polling import until
from tests.support.stream_workers import (
    DONE,
    Worker,
    begin_one,
    lives_for,
    now_ms,
    reclaim_one,
    result,
)

FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "no audio in it"})
DEAD = Ending(Status.DEAD, {"error_code": "internal", "error": "x"}, dead_reason="internal")
WEEK_MS = 7 * 86_400_000
TTL_MS = 60_000


class Side:
    """All that may happen to the jobs of batches, on one server."""

    def __init__(self, client: Any, keys: Keys, worker: Worker) -> None:
        self.client, self.keys = client, keys
        ends = Ends(TTL_MS / 1000, 1000)
        self._driver = Driver(client)
        self._batching = Batching(keys, ends)
        self.submissions = Submissions(client, keys=keys, max_backlog=1000, ends=ends)
        self.cancellations = Cancellations(
            client, keys=keys, result_ttl_seconds=60, results_maxlen=1000
        )
        self.letters = DeadLetters(client, keys=keys, max_backlog=1000)
        self.one, self.two = worker("one"), worker("two")

    def xadd(self, job: str, batch: str = "b", **fields: str) -> str:
        """Send a job as anybody may; returns its entry."""
        added = self.client.xadd("emo:jobs", {"key": "a.wav", "job": job, "batch": batch, **fields})
        return str(added.decode())

    def submit(self, job: str, batch: str | None = "b") -> bool:
        """Submit a job; whether it was enqueued."""
        return self.submissions.submit(Job(job, "a.wav", batch=batch), Lane.NORMAL).enqueued

    def begin(self) -> list[Begun]:
        """Begin all that is new."""
        return self.one.begin(self.one.read(20))

    def end(self, ending: Ending = DONE) -> None:
        """End all that is new."""
        running = [each for each in self.begin() if each.verdict is Verdict.RUN]
        self.one.finish([(each, ending) for each in running])

    def state(self, batch: str = "b") -> BatchState:
        """What the batch has counted."""
        found = self._driver.run(self._batching.state(batch))
        assert found is not None
        return found

    def counts(self, batch: str = "b") -> dict[str, int]:
        """Its counts that are not 0."""
        state = self.state(batch)
        every: dict[str, int] = {"jobs": state.jobs, "repeated": state.repeated}
        every |= {name.value: count for name, count in state.ends.items()}
        return {name: count for name, count in every.items() if count}

    def seal(self, total: int, batch: str = "b") -> BatchState:
        """Seal it."""
        return self._driver.run(self._batching.seal(batch, total))

    def cancel(self, batch: str = "b") -> int | None:
        """Cancel it."""
        return self._driver.run(self._batching.cancel(batch))

    def failures(self, batch: str = "b") -> list[str]:
        """Those of it that failed."""
        listed = self._driver.run(self._batching.failures(batch, 2000))
        return [f"{each.job_id} {each.status} {each.error_code}" for each in listed]

    def events(self) -> list[tuple[str, str]]:
        """Batch and run of each `complete`."""
        return [
            (fields[b"batch"].decode(), fields[b"run"].decode())
            for _, fields in self.client.xrange("emo:batches")
        ]


@pytest.fixture
def side(client: Any, keys: Keys, worker: Worker) -> Side:
    """With two workers whose leases run out at once."""
    return Side(client, keys, worker)


def test_a_batch_counts_its_jobs_and_their_ends(side: Side, client: Any) -> None:
    """Sent by XADD they are known when they are begun, submitted at once."""
    side.submit("s")
    assert side.counts() == {"jobs": 1}
    for job in ("done", "failed", "dead"):
        side.xadd(job)
    side.xadd("late", deadline_ms="1")
    side.xadd("other", batch="c")
    client.xadd("emo:jobs", {"key": "a.wav", "job": "free"})
    begun = {each.job_id: each for each in side.begin()}
    assert side.counts() == {"jobs": 5, "expired": 1}
    endings = {"s": DONE, "done": DONE, "failed": FAILED, "dead": DEAD, "other": DONE, "free": DONE}
    side.one.finish([(begun[job], ending) for job, ending in endings.items()])
    assert side.counts() == {"jobs": 5, "done": 2, "failed": 1, "dead": 1, "expired": 1}
    assert side.counts("c") == {"jobs": 1, "done": 1}
    assert side.failures() == [
        "dead dead internal",
        "failed failed not_audio",
        "late expired deadline_exceeded",
    ]
    assert result(client, "done")["batch"] == "b"
    assert "batch" not in result(client, "free")
    events = {fields[b"job"]: fields.get(b"batch") for _, fields in client.xrange("emo:results")}
    assert (events[b"done"], events[b"free"]) == (b"b", None)
    assert client.keys("emo:batch*") and set(client.keys("emo:batch:*")) == {
        b"emo:batch:b",
        b"emo:batch:c",
    }


def test_a_sealed_batch_completes_once(side: Side, client: Any) -> None:
    """When as many have ended as it was sealed with, in one event with the counts."""
    for job in ("x", "y", "z"):
        side.submit(job)
    assert side.seal(3).status is BatchStatus.SEALED
    side.end()
    assert side.state().complete
    assert side.seal(3).complete, "it can be repeated"
    ((_, event),) = client.xrange("emo:batches")
    told = {name.decode(): value.decode() for name, value in event.items()}
    assert told.pop("completed_at_ms") == str(side.state().completed_at_ms)
    zeros = dict.fromkeys(("failed", "dead", "expired", "cancelled", "repeated"), "0")
    counts = {"run": "1", "total": "3", "jobs": "3", "done": "3"}
    assert told == {"batch": "b", "event": "complete", **counts, **zeros}


def test_it_may_be_sealed_before_after_or_while_jobs_come(side: Side) -> None:
    """Also one of no jobs at all; a total that cannot be is refused, and changes nothing."""
    assert side.seal(2, "before").status is BatchStatus.SEALED
    assert side.seal(0, "none").complete
    for job in ("x", "y"):
        side.xadd(job, "before")
        side.submit(f"{job}-after", "after")
    with pytest.raises(WrongTotal, match="batch after: has 2 jobs and repeats already, not 1"):
        side.seal(1, "after")
    with pytest.raises(WrongTotal, match="-1 is no number of jobs"):
        side.seal(-1, "after")
    side.end()
    assert side.state("before").complete
    assert side.state("after").status is BatchStatus.OPEN
    assert side.seal(3, "after").status is BatchStatus.SEALED
    assert side.seal(2, "after").complete
    with pytest.raises(WrongTotal, match="is complete with a total of 2, not 3"):
        side.seal(3, "after")
    assert sorted(side.events()) == [("after", "1"), ("before", "1"), ("none", "1")]


def test_a_dropped_repeat_counts_in_the_batch_that_it_named(side: Side, client: Any) -> None:
    """A job stays in its first batch; the entry of each repeat counts once."""
    side.xadd("x", "first")
    running = begin_one(side.one)
    side.xadd("x", "second")
    side.xadd("x", "first")
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    assert {each.verdict for each in side.begin()} == {Verdict.REPEATED}
    side.one.finish([(running, DONE)])
    side.xadd("x", "third")
    assert {each.verdict for each in side.begin()} == {Verdict.ENDED}
    assert side.counts("first") == {"jobs": 1, "done": 1, "repeated": 1}
    assert side.counts("second") == side.counts("third") == {"repeated": 1}
    assert side.seal(1, "third").complete
    assert result(client, "x")["batch"] == "first"


def test_a_submission_that_is_repeated_counts_once(side: Side) -> None:
    """A lost reply changes nothing; a job of another batch, or of none, is one repeat of this."""
    assert [side.submit("x"), side.submit("x"), side.submit("x", "c"), side.submit("x", "c")] == [
        True,
        False,
        False,
        False,
    ]
    side.end()
    assert not side.submit("x", "c")
    assert side.counts() == {"jobs": 1, "done": 1}
    assert side.counts("c") == {"repeated": 1}
    side.submit("free", None)
    assert not side.submit("free", "c")
    assert side.counts("c") == {"repeated": 2}
    side.end(FAILED)
    assert side.submit("free", "d"), "it never was in one"
    assert side.counts("d") == {"jobs": 1}


def test_a_job_that_runs_again_reopens_its_batch(side: Side) -> None:
    """Submitted again, whatever batch it names now, or replayed; each run has its event."""
    side.submit("x")
    side.submit("y")
    side.seal(2)
    side.end(DEAD)
    assert (side.counts(), len(side.failures())) == ({"jobs": 2, "dead": 2}, 2)
    assert side.submit("x", "c")
    (letter,) = side.letters.select(Selection(names=frozenset({"y"})))
    side.letters.replay(letter.entry)
    assert (side.state().run, side.state().status) == (2, BatchStatus.SEALED)
    assert (side.counts(), side.failures()) == ({"jobs": 2}, [])
    assert side.counts("c") == {"repeated": 1}
    side.end()
    assert side.counts() == {"jobs": 2, "done": 2}
    assert side.events() == [("b", "1"), ("b", "2")]


def test_a_late_job_reopens_its_batch(side: Side) -> None:
    """More than it was sealed with: it is complete when that one has ended too."""
    side.submit("x")
    side.seal(1)
    side.end()
    side.xadd("late")
    side.end()
    assert side.counts() == {"jobs": 2, "done": 2}
    assert side.events() == [("b", "1"), ("b", "2")]


def test_a_letter_knows_the_batch_of_its_job(side: Side, client: Any) -> None:
    """Where the job's hash has expired; and where the batch has, the job counts nowhere."""
    side.submit("x", "first")
    side.submit("x-c", "c")
    side.end(DEAD)
    letters = {each.job_id: each.entry for each in side.letters.select(Selection())}
    client.delete("emo:result:x", "emo:result:x-c", "emo:batch:c", "emo:batch-failures:c")
    for entry in letters.values():
        side.letters.replay(entry)
    assert side.counts("first") == {"jobs": 1}
    assert side.failures("first") == []
    side.end()
    assert side.counts("first") == {"jobs": 1, "done": 1}
    assert not client.exists("emo:batch:c")
    assert "batch" not in result(client, "x-c")


def test_what_expired_is_counted_no_more(side: Side, client: Any) -> None:
    """An end after the batch is gone changes nothing; a repeat after the hash is a new job."""
    side.submit("x")
    begun = begin_one(side.one)
    client.delete("emo:batch:b")
    side.one.finish([(begun, FAILED)])
    assert not client.keys("emo:batch*")
    client.delete("emo:result:x")
    side.xadd("x")
    side.end()
    assert side.counts() == {"jobs": 1, "done": 1}


def test_how_long_a_batch_is_kept(side: Side, client: Any) -> None:
    """A week after its last change; while it is sealed and waits for jobs; then as its results."""
    begun_ms = now_ms(client)
    side.submit("x")
    side.xadd("x", "second")
    side.begin()
    for key in ("emo:batch:b", "emo:batch:second"):
        assert lives_for(client, key, WEEK_MS, begun_ms)
    side.submit("y", "first")
    side.seal(1, "first")
    assert client.pttl("emo:batch:first") == -1
    side.end(FAILED)
    for key in ("emo:batch:first", "emo:batch-failures:first"):
        assert lives_for(client, key, TTL_MS, begun_ms)
    side.submit("y", "first")
    assert client.pttl("emo:batch:first") == -1


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


@pytest.mark.parametrize("batch", ["two words", "x" * 129, "1795742668800-0", ""])
def test_what_cannot_be_a_batch_counts_nowhere(side: Side, batch: str) -> None:
    """The worker fails the job for it."""
    side.xadd("x", batch)
    side.end(FAILED)
    assert not side.client.keys("emo:batch*")


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


def test_the_list_of_failures_is_capped(side: Side, client: Any) -> None:
    """It holds the newest thousand."""
    client.rpush("emo:batch-failures:b", *(f"old-{n} failed x" for n in range(1000)))
    side.submit("x")
    side.end(FAILED)
    assert client.llen("emo:batch-failures:b") == 1000
    assert side.failures()[0] == "x failed not_audio"


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
