"""Attacks on what a worker stands on: its spool, its store, and the server that it asks."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.attacks.target import GOOD, Target, target
from tests.chaos.checks import Check, require, untested
from tests.chaos.store_proxy import Mood, store_proxy
from tests.support.audio_files import mp3
from tests.support.mounts import mounted
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.worker_process import SAMPLES, worker_process

_RECORDING_SECONDS = 300
_SPOOL_BYTES = 50_000_000  # two such recordings
_OUTAGE_SECONDS = 20.0
_SOON_SECONDS = 10.0
_LONG_SECONDS = 600.0


def full_spool(directory: Path) -> list[Check]:
    """Twelve recordings of five minutes, on a disk that holds two, where one may be mounted."""
    try:
        return _full_spool(directory)
    except pytest.skip.Exception as refused:
        return [untested("12 recordings of five minutes, room for 2", str(refused))]


def _full_spool(directory: Path) -> list[Check]:
    store, spool = directory / "store", directory / "spool"
    store.mkdir(parents=True)
    spool.mkdir()
    (store / GOOD).write_bytes(mp3(_RECORDING_SECONDS, 16_000))
    with (
        mounted(spool, size_bytes=_SPOOL_BYTES),
        target(directory, store, EMO_SPOOL_DIR=str(spool), EMO_MODEL="random:tiny") as victim,
    ):
        jobs = victim.good_jobs(12, "long")
        seconds = victim.wait(jobs, _LONG_SECONDS)
        return _unharmed(victim, jobs, "12 recordings of five minutes, room for 2", seconds)


def lost_store(directory: Path) -> list[Check]:
    """Two workers, of which one has lost its store: it would fail faster than the other works."""
    lost = directory / "lost"
    lost.mkdir(parents=True)
    with (
        target(directory / "well") as victim,
        worker_process(directory, victim.url, lost, name="sick") as sick,
    ):
        lost.rmdir()
        jobs = victim.good_jobs(600, "burst")
        seconds = victim.wait(jobs, _LONG_SECONDS)
        reason = sick.wait_for("worker.sick")["reason"]
        return [
            *_unharmed(victim, jobs, "600 jobs, one of two workers lost its store", seconds),
            require("it says why it takes nothing", str(lost) in reason, reason),
        ]


def absent_store(directory: Path) -> list[Check]:
    """The S3 server refuses for twenty seconds, under forty jobs."""
    with _refusing(directory) as (victim, back):
        jobs = victim.good_jobs(40, "outage")
        victim.worker.wait_for("store.away")
        threading.Event().wait(_OUTAGE_SECONDS)
        back()
        seconds = victim.wait(jobs)
        return [
            *_unharmed(victim, jobs, "40 jobs, the store away for 20 s", seconds),
            require("soon after its return", seconds < _SOON_SECONDS, f"{seconds:.1f} s"),
        ]


@contextmanager
def _refusing(directory: Path) -> Iterator[tuple[Target, Callable[[], None]]]:
    """A target whose store refuses, and what makes it serve again."""
    bucket = directory / "s3" / "audio"
    bucket.mkdir(parents=True)
    (bucket / GOOD).write_bytes((SAMPLES / GOOD).read_bytes())
    keys = {"EMO_S3_ACCESS_KEY": ACCESS_KEY, "EMO_S3_SECRET_KEY": SECRET_KEY}
    with (
        s3_server(directory / "s3") as server,
        store_proxy(server.address) as proxy,
        target(directory, f"s3://{proxy.address}/audio", **keys) as victim,
    ):
        proxy.be(Mood.REFUSES)
        yield victim, lambda: proxy.be(Mood.CALM)


def _unharmed(victim: Target, jobs: Sequence[str], name: str, seconds: float) -> list[Check]:
    tries = {victim.field(job, "attempts") for job in jobs}
    letters = victim.client.xlen("emo:dead")
    return [
        require(f"{name}: all are done", not letters, f"{letters} dead, in {seconds:.1f} s"),
        require(f"{name}: each in one try", tries == {"1"}, f"tries: {', '.join(sorted(tries))}"),
    ]
