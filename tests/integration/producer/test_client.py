"""The client of the queue, for threads and for event loops: one set of tests for both."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from producer.client import AsyncClient, BacklogFull, Contract, InvalidJob, RedisError, new_job
from storage.queue import submission
from storage.queue.batches import BatchStatus, WrongTotal
from storage.queue.cancellation import Cancelled, Verdict
from storage.queue.streams import JobStreams
from storage.queue.submission import PIPELINED, Submitted
from storage.redis.bounds import MAX_REPLY_BYTES, MAX_REPLY_PARTS, ReplyTooLarge
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.redis.event_loop import connect_async
from storage.wire.messages import Job, Lane, Status
from tests.support.clients import KINDS, open_client
from tests.support.polling import until
from tests.support.stream_workers import FAILED, end


def test_a_job_from_its_submission_to_its_result(ours: Any, streams: JobStreams) -> None:
    """By a key or as a job, once, in the lane that was asked for."""
    ours.check()
    job = new_job("a.wav", job="call-1", want=["timeline"], hop_s=5, labels="happy,sad")
    assert ours.submit(job, Lane.HIGH) == Submitted("call-1", "queued", enqueued=True)
    assert ours.submit(job, Lane.HIGH) == Submitted("call-1", "queued", enqueued=False)
    assert ours.status("call-1").status is Status.QUEUED
    assert ours.status("nobody") is None
    end(streams)
    (result,) = ours.wait(["call-1"], timeout_seconds=60)
    assert (result.job_id, result.done) == ("call-1", True)
    assert (result.label, result.score) == ("happy", 0.9)
    by_key = ours.submit("b.wav")
    assert by_key.enqueued
    end(streams, FAILED)
    (failed,) = ours.wait([by_key.job_id], timeout_seconds=60)
    assert (failed.status, failed.error.code) == (Status.FAILED, "not_audio")


def test_a_job_is_checked_as_a_worker_will() -> None:
    """Before it is sent, with the same words."""
    assert new_job("a.wav").id != new_job("a.wav").id
    segments = [{"start_s": 0, "end_s": 1, "speaker": "ä"}]
    assert new_job("a.wav", segments=segments).parts.segments
    with pytest.raises(InvalidJob, match="field 'want': 'feelings'"):
        new_job("a.wav", want="feelings")
    with pytest.raises(InvalidJob, match="field 'job'"):
        new_job("a.wav", job="two words")


def test_many_jobs_go_in_few_round_trips(ours: Any, client: Any) -> None:
    """In their order, taken from the iterable as they are asked for."""
    taken = []

    def jobs() -> Iterator[Job]:
        for number in range(2 * PIPELINED + 1):
            taken.append(number)
            yield Job(f"job-{number}", "a.wav")

    ours.submit("first.wav")
    before = client.info("stats")["total_reads_processed"]
    submitted = ours.submit_many(jobs(), Lane.BULK)
    assert next(submitted).job_id == "job-0"
    assert len(taken) == PIPELINED
    rest = list(submitted)
    assert [one.job_id for one in rest] == [f"job-{n}" for n in range(1, 2 * PIPELINED + 1)]
    assert all(one.enqueued for one in rest)
    assert client.xlen("emo:jobs:bulk") == 2 * PIPELINED + 1
    assert client.info("stats")["total_reads_processed"] - before < 30


def test_many_jobs_wait_for_room(ours: Any, client: Any, streams: JobStreams) -> None:
    """Given full lanes, none is lost and none is sent twice; each is told once there is room."""
    jobs = [Job(f"job-{number}", "a.wav") for number in range(600)]
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            end(streams, most=50)

    worker = threading.Thread(target=work)
    submitted = ours.submit_many(jobs)
    first = list(islice(submitted, 400))
    worker.start()
    try:
        told = [one.job_id for one in (*first, *submitted)]
    finally:
        done.set()
        worker.join()
    assert told == [job.id for job in jobs]
    end(streams, most=600)
    assert client.xlen("emo:results") == 600


def test_many_jobs_stop_at_full_lanes_where_told_to(ours: Any, client: Any) -> None:
    """What is confirmed is told before; all of it, and nothing else, is in the lane."""
    told: list[Submitted] = []
    with pytest.raises(BacklogFull, match="EMO_MAX_BACKLOG=500"):
        told.extend(ours.submit_many((Job(f"job-{n}", "a.wav") for n in range(600)), wait=False))
    assert client.xlen("emo:jobs") == 500
    with pytest.raises(BacklogFull):
        ours.submit("b.wav")


def test_of_many_jobs_the_confirmed_are_told_first(ours: Any, client: Any) -> None:
    """Given one that the server refuses, the others are in the lane, and known."""
    told: list[str] = []
    client.set("emo:jobs:high", "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        ours.submit("a.wav")
    client.delete("emo:jobs:high")
    jobs = [Job("good", "a.wav"), Job("1795742668800-0", "a.wav"), Job("also", "a.wav")]
    with pytest.raises(InvalidJob, match="is the id of an entry"):
        told.extend(one.job_id for one in ours.submit_many(jobs))
    assert client.xlen("emo:jobs") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_confirmed_before_an_outage_is_told(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given full lanes, and a server that goes away while more room is waited for."""
    monkeypatch.setattr(submission, "_FULL_SECONDS", 0.01)
    told: list[str] = []
    with EmbeddedRedis(tmp_path) as server, connect(server.url, name="test") as client:

        def calls() -> int:
            return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

        def stop() -> None:
            try:
                until(
                    lambda: calls() > 1000
                )  # 600 jobs, and a hundred without room again and again
            finally:
                server.stop()

        stopping = threading.Thread(target=stop)
        stopping.start()
        opened = contextmanager(open_client)(kind, server.url, contract=Contract(max_backlog=500))
        with opened as ours, pytest.raises(RedisError):
            told.extend(
                one.job_id for one in ours.submit_many(Job(f"job-{n}", "a.wav") for n in range(600))
            )
        stopping.join()
    assert told == [f"job-{n}" for n in range(500)]


def test_a_wait_is_over_at_its_time(ours: Any) -> None:
    """Where the job has not ended."""
    submitted = ours.submit("a.wav")
    with pytest.raises(TimeoutError, match="1 job"):
        list(ours.wait([submitted.job_id], timeout_seconds=0.05))


def test_a_job_is_cancelled(ours: Any) -> None:
    """Once; and an unknown one is told."""
    submitted = ours.submit("a.wav")
    job = submitted.job_id
    assert ours.cancel(job) == Cancelled(job, Verdict.CANCELLED, "queued")
    assert ours.cancel(job) == Cancelled(job, Verdict.ENDED, "cancelled")
    assert ours.cancel("nobody") == Cancelled("nobody", Verdict.UNKNOWN, None)


def test_an_entry_that_is_too_large_is_not_read(ours: Any, client: Any) -> None:
    """Whoever asks for its job has it not in memory, and the connection does for the next."""
    entry = client.xadd("emo:jobs", {"key": "a.wav", "big": b"x" * (MAX_REPLY_BYTES + 1)}).decode()
    assert ours.status(entry).fields == {"status": "queued"}
    ours.submit(Job("next", "a.wav"))
    assert ours.status("next").status is Status.QUEUED
    assert ours.cancel(entry).verdict is Verdict.CANCELLED


async def _read_it(url: str, entry: str) -> Any:
    async with connect_async(url, name="test") as opened:
        client: Any = opened
        return await client.execute_command("XRANGE", "emo:jobs", entry, entry)


def test_an_event_loop_takes_replies_of_a_size(redis_server: EmbeddedRedis, client: Any) -> None:
    """Too many bytes and too many parts are refused by their announced length."""
    entry = client.xadd("emo:jobs", {"key": "a.wav", "big": b"x" * (MAX_REPLY_BYTES + 1)}).decode()
    with pytest.raises(ReplyTooLarge, match="bytes"):
        asyncio.run(_read_it(redis_server.url, entry))
    many: Any = {f"f{number}": "" for number in range(MAX_REPLY_PARTS // 2 + 1)}
    entry = client.xadd("emo:jobs", many).decode()
    with pytest.raises(ReplyTooLarge, match="parts"):
        asyncio.run(_read_it(redis_server.url, entry))


async def _others_go_on(url: str) -> list[str]:
    async with AsyncClient(url) as client:
        submitted = await client.submit("a.wav")

        async def follow() -> None:
            async for _ in client.wait([submitted.job_id]):
                pass

        waiting = asyncio.create_task(follow())
        told = [one.job_id async for one in client.submit_many(["b.wav", "c.wav"])]
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await client.status(told[0]) is not None
        return told


def test_a_task_that_waits_blocks_no_other(redis_server: EmbeddedRedis, client: Any) -> None:
    """And one that is cancelled leaves the client as it was."""
    assert len(asyncio.run(_others_go_on(redis_server.url))) == 2


def test_a_batch_is_sent_sealed_and_waited_for(ours: Any, client: Any, streams: JobStreams) -> None:
    """Its jobs by key and as jobs; what failed is named, and it is complete once."""
    batch = ours.batch("monday")
    assert batch.state() is None
    assert batch.submit("first.wav").enqueued
    jobs = (Job(f"job-{number}", "a.wav", batch="other") for number in range(3))
    assert [one.job_id for one in batch.submit_many(jobs)] == ["job-0", "job-1", "job-2"]
    with pytest.raises(WrongTotal, match="has 4 jobs and repeats already, not 3"):
        batch.seal(3)
    assert batch.seal(4).status is BatchStatus.SEALED
    end(streams, FAILED)
    (failure,) = batch.failures()
    assert (failure.status, failure.error_code) == ("failed", "not_audio")
    with pytest.raises(TimeoutError, match="batch monday"):
        list(batch.wait(timeout_seconds=0.05))
    states = batch.wait(timeout_seconds=60)
    assert next(states).open == 3
    end(streams, most=5)
    *_, last = states
    assert (last.complete, last.open, last.failed, last.total) == (True, 0, 1, 4)
    assert not client.exists("emo:batch:other")
    assert batch.cancel() is None
    with pytest.raises(InvalidJob, match="field 'batch'"):
        ours.batch("two words")


def test_a_batch_is_cancelled(ours: Any, streams: JobStreams) -> None:
    """Those that nobody has begun yet end when a worker meets them."""
    batch = ours.batch("monday")
    batch.submit(Job("x", "a.wav"))
    assert batch.cancel() == 1
    assert batch.state().cancel_at_ms is not None
    end(streams)
    assert ours.status("x").status is Status.CANCELLED
