"""What is attacked: a server, a worker on sample clips, and how it fares meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from tests.support.polling import until
from tests.support.worker_process import SAMPLES, WorkerProcess, worker_process

GOOD = "calm_en.wav"
_MIB = 1024**2
_LOOK_SECONDS = 0.02


@dataclass
class Toll:
    """The most that was seen of it during an attack."""

    grown_mib: float = 0.0
    ping_seconds: float = 0.0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """A server and a worker that is ready. `client` is Any, as redis-py types its replies."""

    client: Any
    worker: WorkerProcess
    process: psutil.Process
    url: str

    def good_jobs(self, count: int, prefix: str, lane: str = "emo:jobs") -> list[str]:
        """Enqueue so many jobs that must be done."""
        jobs = [f"{prefix}-{number}" for number in range(count)]
        for job in jobs:
            self.client.xadd(lane, {"key": GOOD, "job": job})
        return jobs

    def wait(self, jobs: list[str], seconds: float = 60.0) -> float:
        """Seconds until all of them are done."""
        started = time.monotonic()
        until(lambda: all(self.field(job, "status") == "done" for job in jobs), seconds)
        return time.monotonic() - started

    def field(self, job: str, name: str) -> str:
        """A field of a result; '' where there is none."""
        found = self.client.hget(f"emo:result:{job}", name)
        return found.decode() if found else ""

    @contextmanager
    def watched(self) -> Iterator[Toll]:
        """The worker's memory above what it has now, and how long the server takes to answer."""
        toll, stopping = Toll(), threading.Event()
        before = self.process.memory_info().rss

        def look() -> None:
            with connect(self.url, name="attack-watch", timeout_seconds=60) as client:
                while not stopping.wait(_LOOK_SECONDS):
                    began = time.monotonic()
                    client.ping()
                    toll.ping_seconds = max(toll.ping_seconds, time.monotonic() - began)
                    grown = (self.process.memory_info().rss - before) / _MIB
                    toll.grown_mib = max(toll.grown_mib, grown)
                    toll.threads = max(toll.threads, self.process.num_threads())

        watch = threading.Thread(target=look)
        watch.start()
        try:
            yield toll
        finally:
            stopping.set()
            watch.join()


@contextmanager
def target(directory: Path, store: Path | str = SAMPLES, **settings: str) -> Iterator[Target]:
    """A target that has done a few jobs already, so that its memory is what it needs."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        EmbeddedRedis(directory / "redis") as server,
        connect(server.url, name="attack", timeout_seconds=60) as client,
        worker_process(directory, server.url, store, **settings) as worker,
    ):
        _host, pid, _random = worker.wait_for("worker.ready")["owner"].rsplit("-", 2)
        found = Target(client, worker, psutil.Process(int(pid)), server.url)
        if store == SAMPLES:
            found.wait(found.good_jobs(30, "warm"))
        yield found
