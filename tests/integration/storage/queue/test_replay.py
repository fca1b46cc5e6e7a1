"""Dead letters that run again."""

import time
from typing import Any

import pytest

from storage.queue.dead import DeadLetters, Replayed, Selection, Verdict
from storage.queue.entries import Outcome
from storage.queue.entries import Verdict as Begin
from storage.queue.submission import BacklogFull, Submissions
from storage.wire.messages import Job, Keys, Lane
from tests.integration.storage.queue.test_dead import die, die_next, only
from tests.support.stream_workers import DONE, Worker, begin_one, result


def test_a_replayed_job_is_a_new_run_of_the_same_job(
    client: Any, letters: DeadLetters, worker: Worker
) -> None:
    """In its lane, with its fields, byte for byte, and with nothing left of its death."""
    job = die(client, worker, "emo:jobs:bulk", colour=b"\xff", _note="not ours to send again")
    assert letters.replay(only(letters)) == Replayed(Verdict.REPLAYED, "2")
    assert len(letters) == 0
    state = result(client, job)
    assert {name: state[name] for name in state if name[0] != "_"} == {
        "status": "queued",
        "run": "2",
    }
    assert client.ttl(f"emo:result:{job}") == -1
    streams = worker()
    begun = begin_one(streams)
    assert (begun.job_id, begun.run, begun.attempts) == (job, 2, 1)
    assert begun.delivery.lane is Lane.BULK
    sent = {name: value for name, value in begun.delivery.fields.items() if name[:1] != b"_"}
    assert sent == {b"key": b"a.wav", b"colour": b"\xff"}
    assert streams.finish([(begun, DONE)]) == [Outcome.SETTLED]
    events = [(e[b"job"].decode(), e[b"run"]) for _, e in client.xrange("emo:results")]
    assert events == [(job, b"1"), (job, b"2")]


def test_a_replayed_job_that_is_retried_stays_the_same_job(
    client: Any, letters: DeadLetters, worker: Worker
) -> None:
    """Also where its id was its first entry's; it can die again and be replayed again."""
    job = die(client, worker)
    letters.replay(only(letters))
    streams = worker()
    streams.retry(begin_one(streams), delay_seconds=0, code="internal", message="")
    assert streams.promote().due == 1
    assert die_next(worker) == job
    (letter,) = letters.select(Selection())
    assert (letter.job_id, letter.run) == (job, "2")
    assert letters.replay(letter.entry) == Replayed(Verdict.REPLAYED, "3")


def test_a_letter_is_replayed_once(client: Any, letters: DeadLetters, worker: Worker) -> None:
    """The second operator is told that it is gone."""
    die(client, worker)
    entry = only(letters)
    letters.replay(entry)
    assert letters.replay(entry).verdict is Verdict.GONE
    assert client.xlen("emo:jobs") == 1


@pytest.mark.parametrize("status", ["queued", "done"])
def test_a_job_that_was_submitted_again_is_not_replayed(
    client: Any, letters: DeadLetters, worker: Worker, keys: Keys, status: str
) -> None:
    """Its letter is of an older run; it stays until somebody purges it."""
    die(client, worker, job="x")
    Submissions(client, keys=keys, max_backlog=10).submit(Job("x", "a.wav"), Lane.NORMAL)
    streams = worker()
    if status == "done":
        streams.finish([(begin_one(streams), DONE)])
    before = client.xlen("emo:jobs")
    assert letters.replay(only(letters)) == Replayed(Verdict.MOVED_ON, status)
    assert client.xlen("emo:jobs") == before
    assert len(letters) == 1


def test_only_the_letter_of_the_last_run_is_replayed(
    client: Any, letters: DeadLetters, worker: Worker, keys: Keys
) -> None:
    """A job that died in two runs goes on from the second, so that no run is told twice."""
    die(client, worker, job="x")
    Submissions(client, keys=keys, max_backlog=10).submit(Job("x", "a.wav"), Lane.NORMAL)
    die_next(worker)
    second, first = letters.select(Selection())
    assert letters.replay(first.entry) == Replayed(Verdict.MOVED_ON, "dead")
    assert letters.replay(second.entry) == Replayed(Verdict.REPLAYED, "3")
    assert letters.replay(first.entry) == Replayed(Verdict.MOVED_ON, "queued")


def test_a_letter_outlives_its_result(client: Any, letters: DeadLetters, worker: Worker) -> None:
    """Where the hash has expired, the letter alone says which run comes next."""
    job = die(client, worker, "emo:jobs:high")
    client.delete(f"emo:result:{job}")
    assert letters.replay(only(letters)) == Replayed(Verdict.REPLAYED, "2")
    begun = begin_one(worker())
    assert (begun.job_id, begun.run) == (job, 2)


def test_a_full_backlog_refuses_replays(
    client: Any, letters: DeadLetters, worker: Worker, keys: Keys
) -> None:
    """As it refuses submissions; the letter stays."""
    die(client, worker)
    client.xadd("emo:jobs:bulk", {"key": "b.wav"})
    narrow = DeadLetters(client, keys=keys, max_backlog=1)
    with pytest.raises(BacklogFull, match=r"1 jobs are waiting; EMO_MAX_BACKLOG=1"):
        narrow.replay(only(letters))
    assert len(letters) == 1
    assert client.xlen("emo:jobs") == 0


def test_a_deadline_that_has_passed_forbids_a_replay(
    client: Any, letters: DeadLetters, worker: Worker
) -> None:
    """It would expire at once; without the deadline it runs."""
    die(client, worker)
    ((entry, fields),) = client.xrange("emo:dead")
    client.xdel("emo:dead", entry)
    client.xadd("emo:dead", {**fields, "deadline_ms": 1000})
    assert letters.replay(only(letters)) == Replayed(Verdict.PAST_DEADLINE, "1000")
    assert len(letters) == 1
    assert letters.replay(only(letters), drop_deadline=True).verdict is Verdict.REPLAYED
    assert b"deadline_ms" not in begin_one(worker()).delivery.fields


def test_a_deadline_to_come_is_kept(client: Any, letters: DeadLetters, worker: Worker) -> None:
    """Even where passed ones are to be dropped."""
    deadline_ms = int(time.time() * 1000) + 3_600_000
    die(client, worker, deadline_ms=deadline_ms)
    assert letters.replay(only(letters), drop_deadline=True).verdict is Verdict.REPLAYED
    assert begin_one(worker()).delivery.fields[b"deadline_ms"] == str(deadline_ms).encode()


def test_a_letter_with_thousands_of_fields_is_replayed(
    client: Any, letters: DeadLetters, worker: Worker
) -> None:
    """As many as a worker's letter ever holds."""
    client.xadd("emo:jobs", {"key": "a.wav", **{f"f{number}": number for number in range(1990)}})
    die_next(worker)
    assert letters.replay(only(letters)).verdict is Verdict.REPLAYED
    fields = begin_one(worker()).delivery.fields
    assert fields[b"key"] == b"a.wav"
    assert fields[b"f1989"] == b"1989"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"key": "a.wav"}, "_job"),
        ({"_job": "no such id", "_lane": "normal"}, "_job"),
        ({"_job": "x", "_lane": "results"}, "_lane"),
        ({"_job": "x", "_lane": "normal", **{f"f{i}": i for i in range(4500)}}, "too many"),
    ],
)
def test_a_letter_that_no_worker_wrote_is_refused(
    client: Any, letters: DeadLetters, fields: dict[str, Any], why: str
) -> None:
    """It is listed, can be purged, and does no harm."""
    client.xadd("emo:dead", fields)
    outcome = letters.replay(only(letters))
    assert outcome.verdict is Verdict.UNFIT
    assert why in outcome.detail
    assert client.keys("*") == [b"emo:dead"]
    assert letters.purge([only(letters)]) == 1


def test_a_repeat_of_a_replayed_job_is_dropped(
    client: Any, letters: DeadLetters, worker: Worker
) -> None:
    """An XADD of the same id meets the run that lives."""
    die(client, worker, job="x")
    letters.replay(only(letters))
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    streams = worker()
    verdicts = [begun.verdict for begun in streams.begin(streams.read(6))]
    assert verdicts == [Begin.RUN, Begin.REPEATED]
