"""Workers that are killed in the middle of their work, with leases of a few seconds."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.support.held_store import PATIENCE, HeldStore
from tests.support.long_jobs import JOBS, WAIT_SECONDS, enqueue, long_store, wait_for_events
from tests.support.polling import until
from tests.support.worker_process import worker_process


@pytest.fixture
def store() -> Iterator[HeldStore]:
    """Of one long clip."""
    with long_store() as store:
        yield store


def test_jobs_of_a_killed_worker_are_done_by_another(
    client: Any, redis_server: EmbeddedRedis, store: HeldStore, tmp_path: Path
) -> None:
    """After `kill -9` the leases run out, and each job still ends exactly once."""
    lease = {"EMO_LEASE_SECONDS": "8", **PATIENCE}
    with worker_process(tmp_path, redis_server.url, store.url, "one", **lease) as one:
        jobs = enqueue(client)
        # What is only read was not delivered yet: see docs/delivery.md.
        until(lambda: all(client.exists(f"emo:result:{job}") for job in jobs), WAIT_SECONDS)
        one.signal(signal.SIGKILL)
        one.wait()
    store.let()
    with worker_process(tmp_path, redis_server.url, store.url, "two", **lease):
        told = wait_for_events(client, JOBS)
    assert sorted(told) == sorted(job.encode() for job in jobs)
    deliveries = {int(client.hget(f"emo:result:{job}", "deliveries")) for job in jobs}
    assert deliveries == {2}
