"""What batches count, when they are complete, and how long they are kept."""

from typing import Any

import pytest

from storage.queue.batches import BatchStatus, WrongTotal
from storage.queue.dead import Selection
from storage.queue.entries import Verdict
from tests.support.batches import TTL_MS, WEEK_MS, Side
from tests.support.stream_workers import DEAD, DONE, FAILED, begin_one, lives_for, now_ms, result


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
    assert client.keys("emo:batch*") == [side.keys.open_batches.encode()]
    assert side.unfinished() == (0, 0, 0)
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


def test_the_repeats_of_a_batch_are_kept_as_long_as_it(side: Side, client: Any) -> None:
    """The set of their jobs would be the one part of it that stays for ever."""
    begun_ms = now_ms(client)
    side.submit("x")
    side.submit("x", "c")
    assert lives_for(client, "emo:batch-repeats:c", WEEK_MS, begun_ms)
    side.submit("y", "c")
    side.seal(2, "c")
    assert client.pttl("emo:batch-repeats:c") == -1
    side.end()
    assert side.state("c").complete
    assert lives_for(client, "emo:batch-repeats:c", TTL_MS, begun_ms)


@pytest.mark.parametrize("batch", ["two words", "x" * 129, "1795742668800-0", ""])
def test_what_cannot_be_a_batch_counts_nowhere(side: Side, batch: str) -> None:
    """The worker fails the job for it."""
    side.xadd("x", batch)
    side.end(FAILED)
    assert not side.client.keys("emo:batch*")


def test_the_list_of_failures_is_capped(side: Side, client: Any) -> None:
    """It holds the newest thousand."""
    client.rpush("emo:batch-failures:b", *(f"old-{n} failed x" for n in range(1000)))
    side.submit("x")
    side.end(FAILED)
    assert client.llen("emo:batch-failures:b") == 1000
    assert side.failures()[0] == "x failed not_audio"
