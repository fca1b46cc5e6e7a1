"""Suspects in a real worker, and the end of one whose Redis hangs."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from storage.redis.embedded import EmbeddedRedis
from tests.chaos.patience import Stopwatch
from tests.support.polling import until
from tests.support.worker_process import SAMPLES, worker_process

GRACE_SECONDS = 1.0
BEYOND_GRACE_SECONDS = 10.0  # as docs/delivery.md promises
WAIT_SECONDS = 120.0


@pytest.fixture
def own_server(tmp_path: Path) -> Any:
    """A server that the test may stop."""
    with EmbeddedRedis(tmp_path / "redis") as server:
        yield server


def test_an_innocent_suspect_runs_alone_and_is_cleared(
    client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Decoded by ffmpeg's command line, with the label that it has in company; others go on."""
    crashes = {f"_crash:1-1:dead-{number}:1": "company" for number in range(2)}
    client.hset("emo:result:suspect", mapping={"status": "queued", "run": 1, **crashes})
    for number in range(5):
        client.xadd("emo:jobs", {"key": "excited_en.mp3", "job": f"before-{number}"})
    client.xadd("emo:jobs", {"key": "excited_en.mp3", "job": "suspect"})
    with worker_process(tmp_path, redis_server.url, SAMPLES, "one") as worker:
        begun = worker.wait_for("suspect.begun")
        for number in range(5):
            client.xadd("emo:jobs", {"key": "excited_en.mp3", "job": f"after-{number}"})
        until(lambda: client.xlen("emo:results") == 11, WAIT_SECONDS)
    assert (begun["job"], begun["crashes"]) == ("suspect", 2)
    suspect, other = client.hgetall("emo:result:suspect"), client.hgetall("emo:result:before-0")
    assert suspect[b"status"] == b"done"
    assert suspect[b"label"] == other[b"label"]
    assert suspect[b"batch_clips"] == b"1"
    scores, expected = json.loads(suspect[b"scores"]), json.loads(other[b"scores"])
    assert scores == pytest.approx(expected, abs=0.02)
    assert not [name for name in suspect if name.startswith(b"_")]


def test_a_drain_ends_though_redis_hangs(own_server: EmbeddedRedis, tmp_path: Path) -> None:
    """The grace period and a few seconds, whatever was under way."""
    settings = {"EMO_GRACE_SECONDS": str(GRACE_SECONDS)}
    with worker_process(tmp_path, own_server.url, SAMPLES, "one", **settings) as worker:
        assert own_server.pid is not None
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            watch = Stopwatch()
            worker.signal(signal.SIGTERM)
            until(watch.sees(lambda: not worker.alive()), WAIT_SECONDS)
            assert worker.wait() == 0
            assert watch.seconds < GRACE_SECONDS + BEYOND_GRACE_SECONDS
        finally:
            os.kill(own_server.pid, signal.SIGCONT)
    events = [logged["event"] for logged in worker.events()]
    assert events[-1] == "worker.stopped"
    assert "worker.did_not_leave" in events
