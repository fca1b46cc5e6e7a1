"""Fifty jobs that keep a worker busy for several seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e.test_jobs import wav
from tests.support.polling import until

JOBS = 50
WAIT_SECONDS = 60.0


def long_store(root: Path) -> Path:
    """A store with one clip of 12 s."""
    noise = np.random.default_rng(0).normal(0, 3000, 12 * 16_000).astype("<i2")
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
