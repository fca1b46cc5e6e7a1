"""Dead letters: found and purged, against a real server."""

from typing import Any

from storage.queue.dead import DeadLetters, Selection
from storage.queue.entries import Ending, Outcome
from storage.wire.messages import Status
from tests.support.stream_workers import Worker, begin_one, result


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
