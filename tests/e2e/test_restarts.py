"""Workers that are asked to end in the middle of their work."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.support.long_jobs import (
    JOBS,
    WAIT_SECONDS,
    enqueue,
    in_flight,
    long_store,
    wait_for_events,
    wait_until_all_are_held,
)
from tests.support.worker_process import worker_process


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Of one long clip."""
    return long_store(tmp_path / "store")


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
    assert not client.exists("emo:workers")  # they are no workers any more


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
