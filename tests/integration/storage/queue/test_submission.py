"""The producers' side of the contract, against a real server."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from storage.errors import InvalidJob
from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.queue.submission import BacklogFull, Submissions, Submitted
from storage.wire.messages import Job, Keys, Lane, Status, Want, parse_job
from tests.support.polling import until
from tests.support.stream_workers import new_streams

DONE = Ending(Status.DONE, {"label": "happy", "score": "0.9"})
FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "no audio in it"})


class Clock:
    """Time that passes by `tick` with every look at it."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 1000.0
        self.tick = tick

    def __call__(self) -> float:
        """Seconds."""
        self.now += self.tick
        return self.now


@pytest.fixture
def submissions(client: Any, keys: Keys) -> Submissions:
    """A producer."""
    return Submissions(client, keys=keys, max_backlog=1000)


@pytest.fixture
def worker(client: Any, keys: Keys) -> JobStreams:
    """A worker."""
    return new_streams(JobStreams, client, keys, "one", 30)


Settle = Callable[[Ending], None]


@pytest.fixture
def end_next(worker: JobStreams) -> Settle:
    """Take the next job, and end it so."""

    def end(ending: Ending) -> None:
        worker.finish([(begun, ending) for begun in worker.begin(worker.read(1))])

    return end


def job(job_id: str = "x") -> Job:
    """A job that asks for little."""
    return Job(job_id, "a.wav")


def test_a_submitted_job_is_in_its_lane(client: Any, submissions: Submissions) -> None:
    """With the fields of the contract, and a hash that says queued."""
    asked = Job("x", "ä.wav", bucket="b", deadline_ms=9, want=frozenset({Want.SCORES, Want.FRAMES}))
    assert submissions.submit(asked, Lane.HIGH) == Submitted("x", Status.QUEUED, enqueued=True)
    ((_, fields),) = client.xrange("emo:jobs:high")
    assert fields == {
        b"key": "ä.wav".encode(),
        b"job": b"x",
        b"want": b"frames,scores",
        b"bucket": b"b",
        b"deadline_ms": b"9",
    }
    assert submissions.status("x") == {"status": "queued", "run": "1"}
    assert client.ttl("emo:result:x") == -1


def test_submitting_twice_enqueues_once(client: Any, submissions: Submissions) -> None:
    """A producer that got no answer may ask again, in whatever lane."""
    submissions.submit(job(), Lane.NORMAL)
    again = submissions.submit(job(), Lane.BULK)
    assert again == Submitted("x", Status.QUEUED, enqueued=False)
    assert client.xlen("emo:jobs") + client.xlen("emo:jobs:bulk") == 1


def test_a_running_job_is_not_run_again(
    client: Any, submissions: Submissions, worker: JobStreams
) -> None:
    """A live job stays the one it is."""
    submissions.submit(job(), Lane.NORMAL)
    worker.begin(worker.read(1))
    assert submissions.submit(job(), Lane.NORMAL).status == Status.RUNNING
    assert client.xlen("emo:jobs") == 1


def test_a_done_job_is_not_run_again(
    client: Any, submissions: Submissions, end_next: Settle
) -> None:
    """Its result stands."""
    submissions.submit(job(), Lane.NORMAL)
    end_next(DONE)
    again = submissions.submit(job(), Lane.NORMAL)
    assert again == Submitted("x", Status.DONE, enqueued=False)
    assert client.xlen("emo:jobs") == 0
    assert (submissions.status("x") or {})["label"] == "happy"


@pytest.mark.parametrize("status", [Status.FAILED, Status.EXPIRED, Status.DEAD, Status.CANCELLED])
def test_a_job_that_ended_badly_may_be_run_again(
    client: Any, submissions: Submissions, end_next: Settle, status: Status
) -> None:
    """As a new run, with nothing left of the old one."""
    submissions.submit(job(), Lane.NORMAL)
    end_next(Ending(status, FAILED.fields))
    assert submissions.submit(job(), Lane.NORMAL).enqueued
    assert submissions.status("x") == {"status": "queued", "run": "2"}
    assert client.ttl("emo:result:x") == -1
    end_next(DONE)
    assert (submissions.status("x") or {})["run"] == "2"
    runs = [fields[b"run"] for _, fields in client.xrange("emo:results")]
    assert runs == [b"1", b"2"]


def test_a_full_backlog_refuses_new_jobs(client: Any, keys: Keys, end_next: Settle) -> None:
    """Over all lanes; a job that is known is told as ever, and room that comes is used."""
    submissions = Submissions(client, keys=keys, max_backlog=3)
    for number, lane in enumerate(Lane):
        submissions.submit(job(f"{number}"), lane)
    with pytest.raises(BacklogFull, match=r"3 jobs are waiting; EMO_MAX_BACKLOG=3"):
        submissions.submit(job("more"), Lane.NORMAL)
    assert submissions.status("more") is None
    assert not submissions.submit(job("0"), Lane.NORMAL).enqueued
    end_next(DONE)
    assert submissions.submit(job("more"), Lane.NORMAL).enqueued


@pytest.mark.parametrize(("lane", "before"), [("", ""), (":high", "high-"), (":bulk", "bulk-")])
def test_a_plain_entry_is_queued(
    client: Any, submissions: Submissions, end_next: Settle, lane: str, before: str
) -> None:
    """A job enqueued by plain XADD has no hash yet: it is looked up in its lane."""
    entry = client.xadd(f"emo:jobs{lane}", {"key": "a.wav"}).decode()
    assert submissions.status(f"{before}{entry}") == {"status": "queued"}
    for other in {"", "high-", "bulk-"} - {before}:
        assert submissions.status(f"{other}{entry}") is None
    end_next(DONE)
    assert (submissions.status(f"{before}{entry}") or {})["status"] == "done"


def test_a_plain_entry_with_an_id_of_its_own_is_another_job(
    client: Any, submissions: Submissions
) -> None:
    """It will be known by that id alone, so it is not queued under its entry's."""
    entry = client.xadd("emo:jobs", {"key": "a.wav", "job": "call-1"}).decode()
    assert submissions.status(entry) is None
    unfit = client.xadd("emo:jobs", {"key": "a.wav", "job": "not an id"}).decode()
    assert submissions.status(unfit) == {"status": "queued"}


@pytest.mark.parametrize("job_id", ["unknown", "1-1", "high-1-1", "99999999999999999999-0"])
def test_nobody_knows_an_unknown_job(submissions: Submissions, job_id: str) -> None:
    """Also where its id looks like an entry's."""
    assert submissions.status(job_id) is None


def test_internal_fields_are_not_shown(submissions: Submissions, worker: JobStreams) -> None:
    """What begins with `_` is nobody's business; bytes that are no text do not hide the rest."""
    submissions.submit(job(), Lane.NORMAL)
    worker.begin(worker.read(1))
    found = submissions.status("x") or {}
    assert found["status"] == "running"
    assert found["worker"] == "one"
    assert not [name for name in found if name.startswith("_")]


def test_wait_tells_ends_as_they_come(submissions: Submissions, end_next: Settle) -> None:
    """Those that have ended first, then each when it does, and then it is over."""
    for each in ("a", "b", "c"):
        submissions.submit(job(each), Lane.NORMAL)
    end_next(FAILED)
    ends = submissions.wait(["a", "b", "c", "a"])
    job_id, result = next(ends)
    assert (job_id, result["status"], result["error_code"]) == ("a", "failed", "not_audio")
    end_next(DONE)
    assert next(ends)[0] == "b"
    end_next(DONE)
    assert next(ends)[0] == "c"
    assert next(ends, None) is None


def test_wait_is_woken_by_an_end(submissions: Submissions, end_next: Settle, client: Any) -> None:
    """While it blocks; others' ends are passed over."""
    submissions.submit(job("other"), Lane.NORMAL)
    submissions.submit(job("x"), Lane.NORMAL)
    told: list[str] = []

    def wait() -> None:
        told.extend(job_id for job_id, _ in submissions.wait(["x"], timeout_seconds=60))

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    until(lambda: client.info("clients")["blocked_clients"])
    end_next(DONE)
    end_next(DONE)
    until(lambda: not waiting.is_alive())
    assert told == ["x"]


def test_wait_does_not_rely_on_events(
    submissions: Submissions, end_next: Settle, client: Any
) -> None:
    """An event is a hint, and may be lost: every few seconds the hashes are read anyway."""
    submissions.submit(job("a"), Lane.NORMAL)
    submissions.submit(job("b"), Lane.NORMAL)
    end_next(DONE)
    ends = submissions.wait(["b", "a"], clock=Clock(tick=5.0))
    assert next(ends)[0] == "a"
    end_next(DONE)
    client.delete("emo:results")
    assert next(ends)[0] == "b"


def test_wait_does_not_believe_events(submissions: Submissions, client: Any) -> None:
    """The hash is the truth."""
    submissions.submit(job("a"), Lane.NORMAL)
    submissions.submit(job("b"), Lane.NORMAL)
    client.hset("emo:result:a", "status", "done")
    ends = submissions.wait(["b", "a"], timeout_seconds=30, clock=Clock(tick=5.0))
    assert next(ends)[0] == "a"
    client.xadd("emo:results", {"job": "b", "status": "done"})
    with pytest.raises(TimeoutError):
        next(ends)


def test_wait_times_out_with_what_is_open(submissions: Submissions, end_next: Settle) -> None:
    """What has ended is told first, even with no time to wait."""
    submissions.submit(job("a"), Lane.NORMAL)
    submissions.submit(job("b"), Lane.NORMAL)
    end_next(DONE)
    ends = submissions.wait(["a", "b"], timeout_seconds=0)
    assert next(ends)[0] == "a"
    with pytest.raises(TimeoutError, match=r"1 job\(s\)"):
        next(ends)


def test_wait_blocks_no_longer_than_it_may(submissions: Submissions) -> None:
    """A short time-out is kept, though a blocking read may take longer."""
    submissions.submit(job(), Lane.NORMAL)
    with pytest.raises(TimeoutError):
        next(submissions.wait(["x"], timeout_seconds=0.05))


@pytest.mark.parametrize(("lane", "before"), [(Lane.NORMAL, ""), (Lane.BULK, "bulk-")])
def test_nobody_takes_the_id_of_an_entry(
    client: Any,
    keys: Keys,
    submissions: Submissions,
    worker: JobStreams,
    end_next: Settle,
    lane: Lane,
    before: str,
) -> None:
    """A job that is given another's id ends under its own; the other's result is untouched."""
    stream = keys.lane(lane)
    victim = client.xadd(stream, {"key": "victim.wav"}).decode()
    thief = client.xadd(stream, {"key": "thief.wav", "job": f"{before}{victim}"}).decode()
    found = worker.begin(worker.read(10))
    assert [each.job_id for each in found] == [f"{before}{victim}", f"{before}{thief}"]
    with pytest.raises(InvalidJob, match="the id of an entry"):
        parse_job("x", found[1].delivery.listed, max_job_bytes=32 * 1024)
    with pytest.raises(InvalidJob, match="the id of an entry"):
        submissions.submit(job("high-1795742668800-0"), Lane.HIGH)
    assert client.xlen("emo:jobs:high") == 0


def test_a_job_of_an_entrys_id_that_ended_badly_may_be_run_again(
    client: Any, submissions: Submissions, end_next: Settle
) -> None:
    """It keeps its id, in its new entry too."""
    entry = client.xadd("emo:jobs", {"key": "a.wav"}).decode()
    with pytest.raises(InvalidJob, match="no job of that id has ended"):
        submissions.submit(job(entry), Lane.NORMAL)
    end_next(FAILED)
    assert submissions.submit(job(entry), Lane.HIGH).enqueued
    end_next(DONE)
    assert (submissions.status(entry) or {})["status"] == "done"
    assert (submissions.status(entry) or {})["run"] == "2"
    assert len(client.keys("emo:result:*")) == 1
