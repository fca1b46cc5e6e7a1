"""What operators tell a real worker by marks in Redis: paused lanes, cancelled batches."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from storage.redis.embedded import EmbeddedRedis
from tests.e2e.conftest import Program
from tests.support.polling import until
from tests.support.worker_process import SAMPLES, worker_process

WAIT_SECONDS = 120.0
CLIP = {"key": "sad_en.flac"}


def status(client: Any, job: str) -> bytes | None:
    """A job's status."""
    found: bytes | None = client.hget(f"emo:result:{job}", "status")
    return found


def test_a_pause_holds_one_lane(
    program: Program, client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Of a worker that waits for work: others go on, and the lane itself when it is resumed."""
    producer = partial(program, "producer", EMO_REDIS_URL=redis_server.url)
    with worker_process(tmp_path, redis_server.url, SAMPLES) as worker:
        client.xadd("emo:jobs", CLIP | {"job": "before"})
        until(lambda: status(client, "before") == b"done", WAIT_SECONDS)
        assert producer("lanes", "pause", "normal").returncode == 0
        client.xadd("emo:jobs", CLIP | {"job": "held"})
        client.xadd("emo:jobs:bulk", CLIP | {"job": "free"})
        until(lambda: status(client, "free") == b"done", WAIT_SECONDS)
        told = {"event": "lanes.paused", "lanes": ["normal"]}
        until(lambda: any(told.items() <= each.items() for each in worker.events()), WAIT_SECONDS)
        assert status(client, "held") is None
        assert json.loads(producer("lanes", "--json").stdout)["lanes"]["normal"]["paused_s"] > 0
        producer("lanes", "resume", "normal")
        until(lambda: status(client, "held") == b"done", WAIT_SECONDS)
        assert client.hget("emo:result:held", "deliveries") == b"1"


def test_a_batch_from_its_submission_to_complete(
    program: Program, client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """By a real worker: one that is cancelled ends too, and both are told once."""
    producer = partial(program, "producer", EMO_REDIS_URL=redis_server.url)
    for job in ("a", "b"):
        client.xadd("emo:jobs", CLIP | {"job": job, "batch": "monday"})
    client.xadd("emo:jobs", {"key": "nothing.wav", "job": "c", "batch": "monday"})
    client.xadd("emo:jobs", CLIP | {"job": "d", "batch": "tuesday"})
    assert producer("batch", "seal", "monday", "3").returncode == 0
    assert producer("batch", "seal", "tuesday", "1").returncode == 0
    assert producer("batch", "cancel", "tuesday").returncode == 0
    with worker_process(tmp_path, redis_server.url, SAMPLES):
        waited = producer("batch", "wait", "monday", "--json", "--timeout", "60")
        assert waited.returncode == 3
        last = json.loads(waited.stdout.splitlines()[-1])
        assert (last["done"], last["failed"], last["open"]) == (2, 1, 0)
        until(lambda: status(client, "d") == b"cancelled", WAIT_SECONDS)
    (failure,) = producer("batch", "failures", "monday").stdout.splitlines()
    assert failure.split() == ["c", "failed", "object_not_found"]
    events = [fields[b"batch"] for _, fields in client.xrange("emo:batches")]
    assert sorted(events) == [b"monday", b"tuesday"]
