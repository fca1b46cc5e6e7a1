"""Workers that end in the middle of their work."""

import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.e2e.test_jobs import wav
from tests.support.polling import until
from tests.support.worker_process import worker_process

JOBS = 50
WAIT_SECONDS = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """One clip of 12 s, so that fifty jobs keep a worker busy for several seconds."""
    noise = np.random.default_rng(0).normal(0, 3000, 12 * 16_000).astype("<i2")
    root = tmp_path / "store"
    root.mkdir()
    (root / "long.wav").write_bytes(wav(noise.tobytes(), bits=16))
    return root


def wait_for_events(client: Any, count: int) -> list[bytes]:
    """The jobs named in `emo:results`, once there are `count` events."""
    until(lambda: client.xlen("emo:results") >= count, WAIT_SECONDS)
    return [fields[b"job"] for _, fields in client.xrange("emo:results")]


def enqueue(client: Any) -> list[str]:
    """Fifty jobs."""
    for number in range(JOBS):
        client.xadd("emo:jobs", {"key": "long.wav", "job": f"job-{number}"})
    return [f"job-{number}" for number in range(JOBS)]


def in_flight(client: Any) -> int:
    """Entries that a worker holds."""
    return int(client.xpending("emo:jobs", "workers")["pending"])


def wait_until_all_are_held(client: Any) -> None:
    """Return when no job waits unread."""
    until(lambda: in_flight(client) == client.xlen("emo:jobs"), WAIT_SECONDS)


def test_sigterm_with_fifty_jobs_in_flight_loses_and_repeats_nothing(
    client: Any, redis_server: EmbeddedRedis, store: Path, tmp_path: Path
) -> None:
    """The drained worker gives back what it cannot finish; a second one ends all of it, once."""
    with worker_process(tmp_path, redis_server.url, store, "one", EMO_GRACE_SECONDS="0.5") as one:
        jobs = enqueue(client)
        wait_until_all_are_held(client)
        held = in_flight(client)
        one.signal(signal.SIGTERM)
        assert one.wait() == 0
        gave_back = one.wait_for("worker.gave_back")["jobs"]
    assert held > JOBS // 2
    assert 0 < gave_back <= held
    # Nobody waits for a lease of half a minute: given back is there to be taken at once.
    started = time.monotonic()
    with worker_process(tmp_path, redis_server.url, store, "two") as two:
        told = wait_for_events(client, JOBS)
        two.signal(signal.SIGTERM)
        assert two.wait() == 0
    assert time.monotonic() - started < WAIT_SECONDS
    assert sorted(told) == sorted(job.encode() for job in jobs)
    for job in jobs:
        assert client.hget(f"emo:result:{job}", "status") == b"done"
    assert client.xlen("emo:jobs") == 0
    assert in_flight(client) == 0


def test_jobs_of_a_killed_worker_are_done_by_another(
    client: Any, redis_server: EmbeddedRedis, store: Path, tmp_path: Path
) -> None:
    """After `kill -9` the leases run out, and each job still ends exactly once."""
    lease = {"EMO_LEASE_SECONDS": "1"}
    with worker_process(tmp_path, redis_server.url, store, "one", **lease) as one:
        jobs = enqueue(client)
        wait_until_all_are_held(client)
        one.signal(signal.SIGKILL)
        one.wait()
    with worker_process(tmp_path, redis_server.url, store, "two", **lease):
        told = wait_for_events(client, JOBS)
    assert sorted(told) == sorted(job.encode() for job in jobs)
    deliveries = [int(client.hget(f"emo:result:{job}", "deliveries")) for job in jobs]
    assert max(deliveries) == 2


def test_a_second_sigterm_ends_the_worker_at_once(
    client: Any, redis_server: EmbeddedRedis, store: Path, tmp_path: Path
) -> None:
    """Whoever cannot wait for the drain need not, and sees it by the exit status."""
    with worker_process(tmp_path, redis_server.url, store, "one") as one:
        enqueue(client)
        wait_until_all_are_held(client)
        one.signal(signal.SIGTERM)
        one.wait_for("worker.draining")
        one.signal(signal.SIGTERM)
        assert one.wait(5) != 0
