"""Workers that are killed in the middle of their work."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Lane
from tests.support.held_store import PATIENCE, HeldStore
from tests.support.long_jobs import JOBS, WAIT_SECONDS, enqueue, long_store, wait_for_events
from tests.support.polling import until
from tests.support.stream_workers import lapse
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

    def deliveries() -> set[int]:
        told = [client.hget(f"emo:result:{job}", "deliveries") for job in jobs]
        return {int(count or 0) for count in told}

    keys = Keys("emo")
    # One that stands still for a lease takes over its own jobs, which counts as well. So the first
    # has a long one. With that, the second would wait until the server has been up for as long: it
    # has no room for more jobs, until there are none to take over.
    first = {"EMO_LEASE_SECONDS": "3600", **PATIENCE}
    second = {"EMO_LEASE_SECONDS": "8", "EMO_JOBS_IN_FLIGHT": str(JOBS), **PATIENCE}
    with worker_process(tmp_path, redis_server.url, store.url, "one", **first) as one:
        jobs = enqueue(client)
        # What is only read was not delivered yet: see docs/delivery.md.
        until(lambda: all(client.exists(f"emo:result:{job}") for job in jobs), WAIT_SECONDS)
        one.signal(signal.SIGKILL)
        one.wait()
        lapse(client, keys, one.wait_for("worker.ready")["owner"])
    with worker_process(tmp_path, redis_server.url, store.url, "two", **second):
        until(lambda: deliveries() == {2}, WAIT_SECONDS)
        client.hset(keys.paused, Lane.NORMAL.value, 1)  # nothing of it is taken over any more
        store.let()
        told = wait_for_events(client, JOBS)
    assert sorted(told) == sorted(job.encode() for job in jobs)
    assert deliveries() == {2}
