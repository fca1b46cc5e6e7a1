"""Memory over many jobs: one worker, short clips, its size after 1,000 jobs and after 10,000."""

from pathlib import Path

import psutil

from storage.wire.messages import Lane
from tests.chaos.arena import Arena, Hash, arena
from tests.chaos.checks import Check, check, is_done, require
from tests.chaos.fleet import Nursery
from tests.chaos.kinds import clips
from tests.chaos.patience import eventually
from tests.support.worker_process import worker_process

STEP_JOBS = 1_000
ALL_JOBS = 10_000
_MOST_GROWTH = 0.05
_END_SECONDS = 600.0
_MIB = 1024**2


def measure(directory: Path, parent: Nursery) -> list[Check]:
    """Run the jobs and compare the sizes."""
    with arena(directory, parent, {}) as place:
        jobs: list[str] = []
        sizes: list[float] = []
        # Not a fork: that maps the pages of its libraries bit by bit, which looks like growth.
        url, store = place.redis.url, place.settings["EMO_STORE"]
        with worker_process(directory, url, store, **place.settings) as worker:
            _host, pid, _random = worker.wait_for("worker.ready")["owner"].rsplit("-", 2)
            process = psutil.Process(int(pid))
            for _ in range(ALL_JOBS // STEP_JOBS):
                jobs += _run(place, STEP_JOBS)
                sizes.append(process.memory_info().rss / _MIB)
        results = place.results()
    growth = sizes[-1] / sizes[0] - 1
    return [
        check("every job is done", f"{len(jobs)} jobs", _undone(jobs, results)),
        require(
            f"memory after {ALL_JOBS} jobs as after {STEP_JOBS}",
            abs(growth) <= _MOST_GROWTH,
            f"{growth:+.1%}; MiB: " + ", ".join(f"{size:.0f}" for size in sizes),
        ),
    ]


def _undone(jobs: list[str], results: dict[str, Hash]) -> list[str]:
    return [job for job in jobs if not is_done(results.get(job, {}))]


def _run(place: Arena, count: int) -> list[str]:
    """So many jobs over all good objects, from the first to the last."""
    keys = sorted(clips())
    before = place.ended()
    with place.client.pipeline(transaction=False) as batch:
        for number in range(count):
            batch.xadd(place.keys.lane(Lane.NORMAL), {"key": keys[number % len(keys)]})
        jobs = [entry.decode() for entry in batch.execute()]
    eventually(lambda: place.ended() - before >= count, _END_SECONDS, f"{count} jobs end")
    return jobs
