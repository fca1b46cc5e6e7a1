"""Workers that are asked to end in the middle of their work."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.support.held_store import PATIENCE, HeldStore
from tests.support.long_jobs import (
    JOBS,
    enqueue,
    in_flight,
    long_store,
    wait_for_events,
    wait_until_all_are_held,
)
from tests.support.worker_process import worker_process

ENDED = 10
# Nobody waits for it: what is given back is there to be taken at once.
LEASE = {"EMO_LEASE_SECONDS": "3600"}


@pytest.fixture
def store() -> Iterator[HeldStore]:
    """Of one long clip."""
    with long_store() as store:
        yield store


def test_sigterm_with_fifty_jobs_in_flight_loses_and_repeats_nothing(
    client: Any, redis_server: EmbeddedRedis, store: HeldStore, tmp_path: Path
) -> None:
    """The drained worker gives back what it cannot finish; a second one ends all of it, once."""
    url, settings = redis_server.url, {**LEASE, **PATIENCE, "EMO_GRACE_SECONDS": "0.5"}
    with worker_process(tmp_path, url, store.url, "one", **settings) as one:
        jobs = enqueue(client)
        store.let(ENDED)
        wait_for_events(client, ENDED)
        wait_until_all_are_held(client)
        one.signal(signal.SIGTERM)
        assert one.wait() == 0
        assert one.wait_for("worker.gave_back")["jobs"] == JOBS - ENDED
    store.let()
    with worker_process(tmp_path, url, store.url, "two", **settings) as two:
        told = wait_for_events(client, JOBS)
        two.signal(signal.SIGTERM)
        assert two.wait() == 0
    assert sorted(told) == sorted(job.encode() for job in jobs)
    for job in jobs:
        assert client.hget(f"emo:result:{job}", "status") == b"done"
    assert client.xlen("emo:jobs") == 0
    assert in_flight(client) == 0
    assert not client.exists("emo:workers")  # they are no workers any more


def test_a_second_sigterm_ends_the_worker_at_once(
    client: Any, redis_server: EmbeddedRedis, store: HeldStore, tmp_path: Path
) -> None:
    """Whoever cannot wait for the drain need not, and sees it by the exit status."""
    with worker_process(tmp_path, redis_server.url, store.url, "one", **PATIENCE) as one:
        enqueue(client)
        wait_until_all_are_held(client)
        one.signal(signal.SIGTERM)
        one.wait_for("worker.draining")
        one.signal(signal.SIGTERM)
        assert one.wait() == 130  # 0, as after its time of grace, would say that all is given back
