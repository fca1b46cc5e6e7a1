"""The whole service on the GPU: Redis, a directory of files, one worker process and several."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from bench.gpu.found import Found
from storage.queue.submission import Submissions
from storage.redis.connection import Client, connect
from storage.redis.embedded import EmbeddedRedis, free_port
from storage.wire.messages import Job, Keys, Lane
from worker.bench.audio import write_wav
from worker.bench.choices import Lengths
from worker.bench.clips import draw
from worker.bench.command import SAMPLES

_FILES = 32
_PIPELINED = 1_000
_MONITOR_SECONDS = 4
_JOBS, _MP3_JOBS = 12_000, 3_000
_READY_SECONDS = 60.0
_MOST_SECONDS = 25.0
_PREFIX = "emo"


def measure(found: Found, *, dry: bool) -> None:
    """A service of one worker, of two and of four, with jobs that wait when it is ready."""
    with TemporaryDirectory() as name:
        place = Path(name)
        store = place / "store"
        wavs, mp3s = (_write_files(store, each, 4 if dry else _FILES) for each in (".wav", ".mp3"))
        for workers in (1, 2) if dry else (1, 2, 4):
            jobs, mp3_jobs = (60, 60) if dry else (workers * _JOBS, workers * _MP3_JOBS)
            with _service(place, store, workers, dry=dry) as service:
                if workers == 1:
                    found.step("latency_wav", lambda: service.latency(wavs, 5 if dry else 40))
                found.step(f"wav_{workers}", lambda: service.load(wavs, jobs))
                # Last: a start takes longer than its jobs.
                found.step(f"mp3_{workers}", lambda: service.load(mp3s, mp3_jobs))


def _write_files(directory: Path, suffix: str, count: int) -> list[str]:
    directory.mkdir(exist_ok=True)
    for number, samples in enumerate(draw(Lengths.FIVE, count)):
        target = directory / f"{number}{suffix}"
        if suffix == ".wav":
            write_wav(target, samples)
        else:
            shutil.copy(SAMPLES / "excited_en.mp3", target)
    return [f"{number}{suffix}" for number in range(count)]


def _monitor(port: int) -> Callable[[], Any]:
    """Runs `worker gpu` beside a load; called, it gives what that said of the first GPU."""
    command = [sys.executable, "-m", "worker", "gpu", "--worker", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [*command, "--seconds", str(_MONITOR_SECONDS), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def said() -> Any:
        out, errors = process.communicate()
        return json.loads(out.splitlines()[0]) if process.returncode == 0 else errors[-300:]

    return said


class _Service:
    """Workers that are ready, and what they are given to do."""

    def __init__(self, client: Client, processes: list[psutil.Process], ports: list[int]) -> None:
        self._client = client
        self._keys = Keys(_PREFIX)
        self._submissions = Submissions(client, keys=self._keys, max_backlog=sys.maxsize)
        self._processes, self._ports = processes, ports
        self._number = 0

    def latency(self, files: list[str], jobs: int) -> dict[str, float]:
        """Milliseconds from the submission to the result's hash, one job at a time."""
        took = []
        for _ in range(jobs):
            at = time.time()
            job = self._submit(files)
            while (
                result := self._submissions.status(job)
            ) is None or "finished_at_ms" not in result:
                time.sleep(0.0005)  # the time is the worker's own
            took.append(float(result["finished_at_ms"]) - 1000 * at)
        took.sort()
        result_ms = {"p50_ms": statistics.median(took), "least_ms": took[0], "most_ms": took[-1]}
        print(result_ms, flush=True)
        return result_ms

    def load(self, files: list[str], jobs: int) -> dict[str, Any]:
        """Have them all wait at once; what counts is the middle of the run."""
        before = self._seen()
        monitor = _monitor(self._ports[0])
        lane = self._keys.lane(Lane.NORMAL)
        started = time.monotonic()
        for first in range(0, jobs, _PIPELINED):
            with self._client.pipeline(transaction=False) as pipe:
                for number in range(first, min(first + _PIPELINED, jobs)):
                    pipe.xadd(lane, {"key": files[number % len(files)]})
                pipe.execute()
        marks = [(time.monotonic() - started, 0)]
        while marks[-1][1] < jobs and marks[-1][0] < _MOST_SECONDS:
            time.sleep(0.02)  # the server counts what is left; workers are not asked
            marks.append((time.monotonic() - started, jobs - self._client.xlen(lane)))
        after = self._seen()
        wall, done = marks[-1]
        result = {name: after[name] - before[name] for name in after}
        # Of the middle: workers begin and end with tapes that are not full.
        middle = [mark for mark in marks if 0.2 * done <= mark[1] <= 0.9 * done] or marks
        rate = (middle[-1][1] - middle[0][1]) / max(1e-9, middle[-1][0] - middle[0][0])
        row = {
            "jobs": done,
            "jobs_a_second": done / wall,
            "jobs_a_second_middle": rate,
            "device_busy": result["device_seconds"] / wall,
            "worker_cpu_ms_a_job": 1000 * result["worker_cpu"] / done,
            "decode_cpu_ms_a_job": 1000 * result["decode_cpu"] / done,
            "clips_a_tape": done / max(1, result["tapes"]),
            "monitor": monitor(),
        }
        print({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
        return row

    def _submit(self, files: list[str]) -> str:
        self._number += 1
        job = Job(f"job-{self._number}", files[self._number % len(files)])
        self._submissions.submit(job, Lane.NORMAL)
        return job.id

    def _seen(self) -> dict[str, float]:
        seen = dict.fromkeys(("device_seconds", "tapes"), 0.0)
        for port in self._ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                for family in text_string_to_metric_families(page.read().decode()):
                    for sample in family.samples:
                        if sample.name == "emostream_device_seconds_total":
                            seen["device_seconds"] += sample.value
                        elif sample.name == "emostream_stage_seconds_count":
                            seen["tapes"] += sample.value * (sample.labels["stage"] == "infer")
        seen["worker_cpu"] = sum(map(_cpu, self._processes))
        children = [child for process in self._processes for child in process.children()]
        seen["decode_cpu"] = sum(map(_cpu, children))
        return seen


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def _service(place: Path, store: Path, workers: int, *, dry: bool) -> Iterator[_Service]:
    with ExitStack() as running:
        home = Path(running.enter_context(TemporaryDirectory(dir=place)))
        server = running.enter_context(EmbeddedRedis(home / "redis"))
        client = running.enter_context(connect(server.url, name="bench-gpu"))
        ports, processes, logs = [], [], []
        for number in range(workers):
            port, log = free_port(), home / f"worker-{number}.log"
            settings = {
                "REDIS_URL": server.url,
                "PREFIX": _PREFIX,
                "STORE": store.as_uri(),
                "OUTPUT_STORE": home.as_uri(),
                "METRICS_ADDRESS": f"127.0.0.1:{port}",
                "LOG_LEVEL": "info",
                "MODEL": f"random:{'tiny' if dry else 'large'}",
            }
            with log.open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "worker", "run"],
                    env={**os.environ, **{f"EMO_{k}": v for k, v in settings.items()}},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            running.callback(process.kill)
            ports.append(port)
            logs.append(log)
            processes.append(psutil.Process(process.pid))
        deadline = time.monotonic() + _READY_SECONDS
        for log in logs:
            while "worker.ready" not in (said := log.read_text(errors="replace")):
                if time.monotonic() > deadline:
                    raise TimeoutError(said[-1500:])
                time.sleep(0.05)  # its log is all that says when it is ready
        yield _Service(client, processes, ports)
