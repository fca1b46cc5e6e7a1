"""What operators do to jobs, as they type it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Status
from tests.e2e.conftest import Program
from tests.support.held_store import PATIENCE, held_store
from tests.support.polling import until
from tests.support.stream_workers import begin_one, new_streams
from tests.support.worker_process import ROOT, SAMPLES, worker_process

WAIT_SECONDS = 120.0

Producer = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def producer(program: Program, client: Any, redis_server: EmbeddedRedis) -> Producer:
    """`python -m producer` on an empty server."""
    return partial(program, "producer", EMO_REDIS_URL=redis_server.url)


@pytest.fixture
def letters(client: Any, keys: Keys) -> None:
    """Two jobs that died, `a` and `b`."""
    streams = new_streams(JobStreams, client, keys, "one", 30)
    for job in ("a", "b"):
        client.xadd("emo:jobs", {"key": f"{job}.wav", "job": job})
        ending = Ending(Status.DEAD, {"error": "the store was away"}, dead_reason="internal")
        streams.finish([(begin_one(streams), ending)])


def test_cancel(
    producer: Producer, client: Any, redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Jobs that a real worker is at work on stay cancelled; it drops their results and goes on."""
    jobs = [f"j{number}" for number in range(60)]
    clip = (SAMPLES / "sad_en.flac").read_bytes()
    with (
        held_store("sad_en.flac", clip) as store,
        worker_process(tmp_path, redis_server.url, store.url, **PATIENCE) as worker,
    ):
        with client.pipeline(transaction=True) as batch:
            for job in jobs:
                batch.xadd("emo:jobs", {"key": "sad_en.flac", "job": job})
            batch.execute()
        until(lambda: client.hget("emo:result:j59", "status") == b"running")
        assert producer("cancel", *jobs).stdout.split() == jobs
        store.let()
        client.xadd("emo:jobs", {"key": "sad_en.flac", "job": "last"})
        until(lambda: client.hget("emo:result:last", "status") == b"done", WAIT_SECONDS)
        noticed = {"job.result_dropped", "heartbeat.lost"}
        until(lambda: noticed & {logged["event"] for logged in worker.events()}, WAIT_SECONDS)
    ends = {client.hget(f"emo:result:{job}", "status") for job in jobs}
    assert ends == {b"cancelled"}
    assert client.xlen("emo:results") == len(jobs) + 1, "one event for each job"
    assert client.xlen("emo:jobs") == 0


@pytest.mark.usefixtures("letters")
def test_dead_list(producer: Producer) -> None:
    """A line a letter, the newest first."""
    rows = [line.split() for line in producer("dead", "list").stdout.splitlines()]
    assert [row[1:4] for row in rows] == [
        ["job", "lane", "reason"],
        ["b", "normal", "internal"],
        ["a", "normal", "internal"],
    ]


@pytest.mark.usefixtures("letters")
def test_dead_show(producer: Producer) -> None:
    """The letter and its job as one JSON object."""
    shown = json.loads(producer("dead", "show", "a", "--json").stdout)
    assert (shown["job"], shown["reason"], shown["fields"]["key"]) == ("a", "internal", "a.wav")
    assert shown["job_now"]["error"] == "the store was away"


@pytest.mark.usefixtures("letters")
def test_dead_replay(producer: Producer, client: Any) -> None:
    """The job is in its lane again, and its id printed."""
    ran = producer("dead", "replay", "a")
    assert (ran.returncode, ran.stdout.split()) == (0, ["a"])
    assert client.hget("emo:result:a", "status") == b"queued"
    assert client.xlen("emo:jobs") == 1


@pytest.mark.usefixtures("letters")
def test_dead_purge(producer: Producer, client: Any) -> None:
    """Every letter is deleted."""
    ran = producer("dead", "purge", "--all")
    assert (ran.returncode, ran.stderr.strip()) == (0, "2 purged")
    assert client.xlen("emo:dead") == 0


def test_lanes(producer: Producer, client: Any) -> None:
    """What is queued, by lane and together."""
    client.xadd("emo:jobs:bulk", {"key": "a.wav"})
    found = json.loads(producer("lanes", "--json").stdout)
    assert found["lanes"]["bulk"]["queued"] == found["all"]["queued"] == 1


def test_lanes_are_watched_until_ctrl_c(client: Any, redis_server: EmbeddedRedis) -> None:
    """Again and again; the exit status is that of an interrupt."""
    watching = subprocess.Popen(
        [sys.executable, "-m", "producer", "lanes", "--watch", "--json"],
        cwd=ROOT,
        env={"EMO_REDIS_URL": redis_server.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    with watching:
        looks = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 130
    assert [look["all"]["queued"] for look in looks] == [0, 0]
