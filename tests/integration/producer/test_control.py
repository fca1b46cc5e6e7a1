"""Control's jobs of rq: what strangers may make it run, and that it goes on."""

import json
import os
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from rq import Queue, SimpleWorker
from typer.testing import CliRunner

from producer.cli import app
from producer.control.jobs import ControlJob, ControlQueue, jobs_of
from producer.control.worker import ControlScheduler, ControlWorker
from storage.redis.connection import Client
from storage.redis.embedded import EmbeddedRedis
from tests.support.control import Until


@pytest.fixture
def ran() -> list[str]:
    """What listed functions were called with."""
    return []


@pytest.fixture
def queue(client: Any, ran: list[str]) -> ControlQueue:
    """A queue with one listed function."""
    return ControlQueue("emo", client, job_class=jobs_of({"note": ran.append, "fail": _fail}))


def _fail() -> None:
    raise RuntimeError("no")


def work(queue: ControlQueue) -> list[str]:
    """Run what is in the queue; the tries that raised."""
    failures: list[str] = []

    def failed(job: ControlJob, kind: type[BaseException], error: BaseException, _: Any) -> bool:
        failures.append(f"{kind.__name__}: {error}")
        return True

    ControlWorker(queue, Event(), failed=failed).work(burst=True, logging_level="CRITICAL")
    return failures


def test_a_strangers_pickle_is_no_job(
    client: Any, queue: ControlQueue, ran: list[str], tmp_path: Path
) -> None:
    """As rq has them by default: it would run any function of any module."""
    Queue("emo", connection=client).enqueue(os.mkdir, str(tmp_path / "hacked"))
    queue.send("note", "ours", job_id="ours")
    assert work(queue) == ["DeserializationError: "]
    assert ran == ["ours"]
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("instance", [None, "ours"])
def test_a_function_that_is_not_listed_is_refused(
    client: Any, queue: ControlQueue, ran: list[str], tmp_path: Path, instance: str | None
) -> None:
    """Though it is JSON: whether it names a function of a module, or a method of an instance."""
    hacked = str(tmp_path / "hacked")
    name = "os.mkdir" if instance is None else "split"
    job = ControlJob.create(name, [hacked], connection=client, serializer=queue.serializer)
    job._instance = instance
    queue.enqueue_job(job)
    (failure,) = work(queue)
    assert failure == f"NotListed: '{name}' is none of note, fail"
    assert not Path(hacked).exists()


@pytest.mark.parametrize("when", ["success", "failure", "stopped"])
def test_what_is_to_be_called_at_an_end_is_not(
    client: Any, queue: ControlQueue, ran: list[str], tmp_path: Path, when: str
) -> None:
    """Rq's callbacks are names of any functions; its webhooks, any addresses."""
    for name in ("note", "fail"):
        args = [name] if name == "note" else []
        job = ControlJob.create(name, args, connection=client, serializer=queue.serializer)
        queue.enqueue_job(job)
        hook = json.dumps([{"url": "http://127.0.0.1:1/", "statuses": ["finished", "failed"]}])
        client.hset(job.key, mapping={f"{when}_callback_name": "os.abort", "webhooks": hook})
        loaded = queue.fetch_job(job.id)
        assert loaded is not None
        assert (loaded.success_callback, loaded.failure_callback) == (None, None)
        assert (loaded.stopped_callback, loaded.webhooks) == (None, [])
    assert work(queue) == ["RuntimeError: no"]
    assert ran == ["note"]


def test_a_job_that_cannot_be_read_stops_nobody(
    client: Any, queue: ControlQueue, ran: list[str]
) -> None:
    """Rq's worker would end over it, and again whenever it starts."""
    client.hset("rq:job:odd", mapping={"data": "[]", "status": "nonsense"})
    client.rpush("rq:queue:emo", "odd", "gone")
    queue.send("note", "ours", job_id="ours")
    assert work(queue) == []
    assert ran == ["ours"]


def test_an_id_is_known_until_it_is_done(queue: ControlQueue, ran: list[str]) -> None:
    """What is sent again meanwhile is not run twice."""
    assert queue.send("note", "once", job_id="x")
    assert not queue.send("note", "twice", job_id="x")
    work(queue)
    assert queue.send("note", "again", job_id="x")
    work(queue)
    assert ran == ["once", "again"]


def test_a_try_that_raised_is_tried_again_when_it_is_due(
    client: Any, queue: ControlQueue, ran: list[str], redis_server: EmbeddedRedis
) -> None:
    """At once for 0 seconds, else by rq's scheduler, on a thread of ours."""
    queue.send("fail", job_id="x", retry_seconds=[0, 1])
    assert work(queue) == ["RuntimeError: no"] * 2
    queue.send("note", "late", job_id="late", after_seconds=1)
    assert client.zcard("rq:scheduled:emo") == 2
    scheduler, stop = ControlScheduler(queue, client), Until(lambda: len(queue) == 2)
    scheduler(stop)
    assert work(queue) == ["RuntimeError: no"]
    assert ran == ["late"]
    assert client.exists("rq:scheduler-lock:emo") == 0


def test_a_worker_ends_within_a_second(
    queue: ControlQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it waits for jobs: never for longer, and not again."""
    stop, waits, wait = Event(), list[int | None](), SimpleWorker.dequeue_job_and_maintain_ttl

    def stopped_meanwhile(worker: SimpleWorker, timeout: int | None, *more: int | None) -> Any:
        waits.append(timeout)
        if len(waits) == 2:
            stop.set()
        return wait(worker, timeout, *more)

    monkeypatch.setattr(SimpleWorker, "dequeue_job_and_maintain_ttl", stopped_meanwhile)
    ControlWorker(queue, stop, failed=lambda *_: True).work(logging_level="CRITICAL")
    assert waits == [1, 1]


def test_a_cluster_is_refused_with_a_sentence(client: Client) -> None:
    """Rq has none, whichever of both URLs names it."""
    cluster = {"EMO_REDIS_URL": "redis+cluster://127.0.0.1:7000", "EMO_PREFIX": "{emo}"}
    for given in (
        cluster,
        {"EMO_REDIS_URL": "redis://x", "EMO_CONTROL_REDIS_URL": "redis+cluster://127.0.0.1:7000"},
    ):
        said = CliRunner().invoke(app, ["control"], env=given)
        assert said.exit_code == 2
        assert "rq, by which control works, has no Redis Cluster" in said.output
        assert "7000" not in said.output
