"""Dead letters: found, replayed and purged, against a real server."""

import time
from typing import Any

import pytest

from storage.queue.dead import DeadLetters, Replayed, Selection, Verdict
from storage.queue.entries import Ending, Outcome
from storage.queue.entries import Verdict as Begin
from storage.queue.submission import BacklogFull, Submissions
from storage.wire.messages import Job, Keys, Lane, Status
from tests.support.stream_workers import DONE, Worker, begin_one, result


@pytest.fixture
def letters(client: Any, keys: Keys) -> DeadLetters:
    """The operators' side."""
    return DeadLetters(client, keys=keys, max_backlog=1000)


def die(client: Any, worker: Worker, lane: str = "emo:jobs", **fields: Any) -> str:
    """Enqueue a job that dies of its first try; returns its id."""
    client.xadd(lane, {"key": "a.wav", **fields})
    return die_next(worker)


def die_next(worker: Worker, reason: str = "internal") -> str:
    """Let the next job die; returns its id."""
    streams = worker()
    begun = begin_one(streams)
    fields = {"error_code": reason, "error": "went wrong"}
    assert streams.finish([(begun, Ending(Status.DEAD, fields, reason))]) == [Outcome.SETTLED]
    return begun.job_id


def only(letters: DeadLetters) -> str:
    """The entry of the one letter there is."""
    (letter,) = letters.select(Selection())
    return letter.entry


def test_a_letter_tells_its_job(client: Any, letters: DeadLetters, worker: Worker) -> None:
    """What it died of, where, after how many tries, and what was asked for."""
    die(client, worker, "emo:jobs:high", job="x", colour=b"\xff")
    (letter,) = letters.select(Selection())
    assert (letter.job_id, letter.lane, letter.reason) == ("x", "high", "internal")
    assert (letter.attempts, letter.run, letter.owner) == ("1", "1", "one")
    assert letter.fields == {"key": "a.wav", "job": "x", "colour": "�"}
    assert 0 <= letters.now_ms() - letter.died_at_ms < 60_000
    assert len(letters) == 1


def test_many_letters_are_read_in_pages(client: Any, letters: DeadLetters) -> None:
    """All of them, each once, the newest first."""
    with client.pipeline(transaction=False) as batch:
        for number in range(1001):
            batch.xadd("emo:dead", {"_job": f"j{number}"})
        batch.execute()
    assert [each.job_id for each in letters.select(Selection())] == [
        f"j{number}" for number in reversed(range(1001))
    ]


def test_letters_are_read_as_they_are_asked_for(client: Any, letters: DeadLetters) -> None:
    """One that comes meanwhile is not among them: what dies again is not replayed for ever."""
    client.xadd("emo:dead", {"_job": "a"})
    selected = letters.select(Selection())
    assert next(selected).job_id == "a"
    client.xadd("emo:dead", {"_job": "b"})
    assert next(selected, None) is None


def test_letters_are_selected_by_job_entry_and_reason(
    client: Any, letters: DeadLetters, worker: Worker
) -> None:
    """What is given must all match."""
    die(client, worker, job="a")
    client.xadd("emo:jobs", {"key": "b.wav", "job": "b"})
    die_next(worker, reason="crash_loop")
    second, first = letters.select(Selection())

    def selected(**by: Any) -> list[str]:
        return [letter.job_id for letter in letters.select(Selection(**by))]

    assert selected(names=frozenset({"a"})) == ["a"]
    assert selected(names=frozenset({second.entry, "a"})) == ["b", "a"]
    assert selected(reason="crash_loop") == ["b"]
    assert selected(names=frozenset({"a"}), reason="crash_loop") == []
    assert (letters.find("a"), letters.find(second.entry)) == (first, second)
    assert letters.find("nobody") is None
    assert letters.find("1-1") is None


def test_a_letter_is_found_among_many(client: Any, letters: DeadLetters, worker: Worker) -> None:
    """By the time in its job's hash, without reading the others; and without the hash as well."""
    job = die(client, worker, job="x")
    entry = only(letters)
    after = int(entry.partition("-")[0]) + 3_600_000
    for number in range(1000):
        client.xadd("emo:dead", {"_job": f"j{number}"}, id=f"{after}-{number}")
    client.config_resetstat()
    found = letters.find(job)
    assert found is not None
    assert found.entry == entry
    assert client.info("commandstats")["cmdstat_xrevrange"]["calls"] == 1
    client.delete("emo:result:x")
    assert letters.find(job) == found


def test_letters_are_selected_by_age(client: Any, letters: DeadLetters) -> None:
    """By the clock of Redis; an age before all time selects nothing, and breaks nothing."""
    now_ms = letters.now_ms()
    for seconds in (7200, 3600, 60):
        client.xadd("emo:dead", {"_job": f"{seconds}"}, id=f"{now_ms - seconds * 1000}-5")

    def selected(**by: Any) -> list[str]:
        return [letter.job_id for letter in letters.select(Selection(**by))]

    assert selected(older_than_seconds=1800) == ["3600", "7200"]
    assert selected(newer_than_seconds=1800) == ["60"]
    assert selected(older_than_seconds=1800, newer_than_seconds=5000) == ["3600"]
    assert selected(older_than_seconds=1e12) == []
    assert selected(newer_than_seconds=1e12) == ["60", "3600", "7200"]


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


def test_purged_letters_are_gone(client: Any, letters: DeadLetters, worker: Worker) -> None:
    """Their results stay until they expire."""
    for job in ("a", "b", "c"):
        die(client, worker, job=job)
    entries = [letter.entry for letter in letters.select(Selection(names=frozenset("ab")))]
    assert letters.purge(entries) == 2
    assert letters.purge(entries) == 0
    assert letters.purge([]) == 0
    assert [letter.job_id for letter in letters.select(Selection())] == ["c"]
    assert result(client, "a")["status"] == "dead"


def test_letters_of_the_largest_jobs_are_all_listed(client: Any, letters: DeadLetters) -> None:
    """However few of them one reply may hold."""
    fields = {f"field-{number}": "x" for number in range(990)} | {"key": "a.wav", "_job": "x"}
    with client.pipeline() as pipeline:
        for _ in range(100):
            pipeline.xadd("emo:dead", fields)
        added = [entry.decode() for entry in pipeline.execute()]
    assert [letter.entry for letter in letters.select(Selection())] == added[::-1]
