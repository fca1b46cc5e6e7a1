"""All that a job costs beside the network: a stand-in takes its place, and says so."""

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from worker.bench.choices import Format, Store
from worker.bench.machine import children_cpu_seconds, cpu_seconds
from worker.bench.report import FeedReport
from worker.bench.service import Service, running_service
from worker.bench.stores import served, write_files
from worker.settings import WorkerSettings

_FIRST_JOBS = 200
_MOST_GROWTH = 8.0
_LEAST_MS = 0.001
_BUCKET = "bench"
# The latter where no time is to be taken.
_IN_FLIGHT, _IN_FLIGHT_OF_A_LOOK = 256, 32
_FILES, _FILES_OF_A_LOOK = 32, 8
_WATCH = "watch"  # threads of the stand-in that measure, and are no part of a worker


@dataclass(frozen=True, slots=True)
class _Seen:
    """CPU seconds so far."""

    processes: dict[str, float]
    threads: dict[str, float]
    looks: int
    held: int
    wall_seconds: float
    done: int


def measure_feed(
    settings: WorkerSettings,
    *,
    store: Store,
    form: Format,
    samples: Path,
    directory: Path,
    seconds: float,
) -> FeedReport:
    """Keep a worker busy for about `seconds`, after a short run that says how many jobs it takes.

    Raises NoServer, ServiceFailed.
    """
    bucket = directory / "store" / _BUCKET
    bucket.mkdir(parents=True)
    in_flight = _IN_FLIGHT if seconds else _IN_FLIGHT_OF_A_LOOK
    files = _FILES if seconds else _FILES_OF_A_LOOK
    objects = list(write_files(bucket, form, samples, files=files))
    with ExitStack() as running:
        server, ours = running.enter_context(served(store, bucket))
        ours = {"jobs_in_flight": str(in_flight), **ours}
        service = running.enter_context(
            running_service(
                settings, directory, objects, ours=ours, program="worker.commands.stand_in"
            )
        )
        model = service.run(1)[0].fields["model"]
        jobs = _FIRST_JOBS
        while True:
            first, last = _load(service, server, jobs, in_flight)
            if first.done == last.done:
                continue  # nobody looked while they were done
            took_seconds = last.wall_seconds - first.wall_seconds
            if took_seconds >= seconds / 2:
                break
            # A short run says little of a long one: go there in steps.
            jobs = round(jobs * min(_MOST_GROWTH, 1.2 * seconds / max(1e-3, took_seconds)))
        resident = psutil.Process(service.pid).memory_info().rss
    return _report(settings, first, last, what=f"{store}, {form}", resident=resident, model=model)


def _load(
    service: Service, server: psutil.Process | None, jobs: int, in_flight: int
) -> tuple[_Seen, _Seen]:
    """So many jobs, while as many as the worker holds are before them and behind them."""
    begun = service.submit_all(jobs + 2 * in_flight)
    marks = []
    for done in (in_flight, in_flight + jobs):
        wall_seconds, done_by_now = service.wait_for(begun, done)
        marks.append(_seen(service, server, wall_seconds, done_by_now))
    service.wait_for(begun, jobs + 2 * in_flight)
    return marks[0], marks[1]


def _seen(service: Service, server: psutil.Process | None, wall_seconds: float, done: int) -> _Seen:
    said = json.loads(service.ask())
    worker = psutil.Process(service.pid)
    processes = {
        "worker": cpu_seconds(worker) - said["threads"].pop(_WATCH, 0.0),
        "decode processes": children_cpu_seconds(worker),
        "Redis": cpu_seconds(psutil.Process(service.redis_pid)),
    }
    if server is not None:
        processes["S3 server"] = cpu_seconds(server)
    return _Seen(processes, said["threads"], said["looks"], said["held"], wall_seconds, done)


def _report(
    settings: WorkerSettings, first: _Seen, last: _Seen, *, what: str, resident: int, model: str
) -> FeedReport:
    jobs = last.done - first.done

    def ms_a_job(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
        return {name: 1000 * (after[name] - before.get(name, 0.0)) / jobs for name in after}

    threads = ms_a_job(last.threads, first.threads)
    wall_seconds = last.wall_seconds - first.wall_seconds
    held = (last.held - first.held) / max(1, last.looks - first.looks)
    return FeedReport(
        what=what,
        model=model,
        jobs=jobs,
        jobs_per_second=jobs / wall_seconds,
        cpu_ms=ms_a_job(last.processes, first.processes),
        thread_ms={name: ms for name, ms in threads.items() if ms >= _LEAST_MS},
        lock_held=held,
        lock_ms=1000 * held * wall_seconds / jobs,
        resident_megabytes=resident / 1e6,
        processes=settings.decode_processes,
        fetch_threads=settings.fetch_threads,
    )
