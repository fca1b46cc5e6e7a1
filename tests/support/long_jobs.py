"""Fifty jobs that keep a worker busy for as long as a test wants."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tests.e2e.test_jobs import wav
from tests.support.held_store import HeldStore, held_store
from tests.support.polling import until

JOBS = 50
WAIT_SECONDS = 120.0


@contextmanager
def long_store() -> Iterator[HeldStore]:
    """A store with one clip of 12 s, which comes when it is let."""
    noise = np.random.default_rng(0).normal(0, 3000, 12 * 16_000).astype("<i2")
    with held_store("long.wav", wav(noise.tobytes(), bits=16)) as store:
        yield store


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
