"""The whole service on this machine: an embedded Redis, a directory of clips, a worker process."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from storage.queue.submission import Submissions
from storage.redis.connection import Client, connect
from storage.redis.embedded import EmbeddedRedis, free_port
from storage.settings import variable
from storage.wire.messages import Job, Keys, Lane, Status
from worker.bench.audio import convert, write_wav
from worker.bench.choices import Lengths
from worker.bench.clips import draw
from worker.settings import WorkerSettings

# Formats take turns, as an upstream service's do: one that needs no decoder, and three that do.
FORMATS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (".wav", ("-c:a", "pcm_s16le")),
    (".flac", ("-c:a", "flac")),
    (".mp3", ("-c:a", "libmp3lame", "-b:a", "64k", "-ar", "44100")),
    (".opus", ("-c:a", "libopus", "-b:a", "32k")),
)
DIFFERENT_CLIPS = 32
_PIPELINED = 1_000
_PREFIX = "emo"
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 40.0


class ServiceFailed(Exception):
    """The worker ended, or a job was not done; the message says why."""


@dataclass(frozen=True, slots=True)
class Done:
    """A job's result hash, when it was to be submitted, and how much later it was."""

    intended_ms: float
    late_ms: float
    fields: dict[str, str]

    @property
    def queue_to_done_ms(self) -> float:
        """From the moment that it was to be submitted to its result."""
        return self.finished_ms - self.intended_ms

    @property
    def finished_ms(self) -> float:
        """When the result was written, as a unix time."""
        return float(self.fields["finished_at_ms"])

    def stage_ms(self, stage: str) -> float:
        """Its time in a stage."""
        return float(self.fields[f"{stage}_ms"])


class Service:
    """A worker that is up, and jobs for it. Not thread-safe."""

    def __init__(
        self,
        client: Client,
        worker: subprocess.Popen[bytes],
        *,
        objects: Sequence[str],
        metrics_port: int,
        log: Path,
        redis_pid: int,
    ) -> None:
        self._client = client
        self._keys = Keys(_PREFIX)
        self._submissions = Submissions(client, keys=self._keys, max_backlog=sys.maxsize)
        self._worker = worker
        self._objects = objects
        self._metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._log = log
        self._numbers = count()
        self.redis_pid = redis_pid

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._worker.pid

    def run(self, jobs: int, *, per_second: float | None = None) -> list[Done]:
        """Submit so many jobs, at that rate or at once, and wait for all. Raises ServiceFailed."""
        times: dict[str, tuple[float, float]] = {}
        started, started_unix = time.monotonic(), time.time()
        for number in range(jobs):
            intended = now = time.monotonic()
            if per_second is not None:  # the load that is measured: one job at its time
                intended = started + number / per_second
                time.sleep(max(0.0, intended - now))
                now = time.monotonic()
            key = self._objects[number % len(self._objects)]
            job = Job(f"bench-{next(self._numbers)}", key)
            # Where Redis keeps us from the next one, that one waits too.
            times[job.id] = started_unix + intended - started, now - intended
            self._submissions.submit(job, Lane.NORMAL)
        while self._client.xlen(self._keys.lane(Lane.NORMAL)):
            self._require_worker()
            time.sleep(_LOOK_SECONDS)  # the server knows when each ended; only then we ask
        return [
            Done(1000 * intended, 1000 * late, self._result(job_id))
            for job_id, (intended, late) in times.items()
        ]

    def submit_all(self, jobs: int) -> tuple[float, int]:
        """Have so many jobs wait; returns when that began, and how many there are: `wait_for`."""
        lane, began = self._keys.lane(Lane.NORMAL), time.monotonic()
        for first in range(0, jobs, _PIPELINED):
            with self._client.pipeline(transaction=False) as pipe:
                for number in range(first, min(first + _PIPELINED, jobs)):
                    pipe.xadd(lane, {"key": self._objects[number % len(self._objects)]})
                pipe.execute()
        return began, jobs

    def wait_for(self, begun: tuple[float, int], done: int) -> tuple[float, int]:
        """Wait until so many have ended; returns the seconds since they came, and how many have.

        Raises ServiceFailed.
        """
        began, jobs = begun
        while (left := self._client.xlen(self._keys.lane(Lane.NORMAL))) > jobs - done:
            self._require_worker()
            time.sleep(_LOOK_SECONDS)  # the server counts what is left; the worker is not asked
        return time.monotonic() - began, jobs - left

    def ask(self) -> str:
        """What a stand-in says of itself. Raises ServiceFailed."""
        assert self._worker.stdin is not None and self._worker.stdout is not None
        self._require_worker()
        self._worker.stdin.write(b"\n")
        self._worker.stdin.flush()
        return self._worker.stdout.readline().decode()

    def stage_seconds(self) -> dict[str, float]:
        """Seconds that all jobs and tapes have spent in each stage so far."""
        with urllib.request.urlopen(self._metrics_url, timeout=10) as page:
            families = list(text_string_to_metric_families(page.read().decode()))
        return {
            sample.labels["stage"]: sample.value
            for family in families
            for sample in family.samples
            if sample.name == "emostream_stage_seconds_sum"
        }

    def _result(self, job_id: str) -> dict[str, str]:
        result = self._submissions.status(job_id) or {}
        if result.get("status") != Status.DONE:
            raise ServiceFailed(f"{job_id} is not done but {result}; see {self._log}")
        return result

    def _require_worker(self) -> None:
        if self._worker.poll() is not None:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
            raise ServiceFailed(f"the worker ended with {self._worker.returncode}:\n{tail}")


@contextmanager
def running_service(
    settings: WorkerSettings,
    directory: Path,
    objects: Sequence[str],
    *,
    ours: Mapping[str, str],
    program: str = "worker",
) -> Iterator[Service]:
    """A service that has done its first jobs, with all its files in `directory`.

    `ours` are settings that come before those given, among them the store. Raises NoServer,
    ServiceFailed.
    """
    with (
        EmbeddedRedis(directory / "redis") as server,
        connect(server.url, name="emostream-bench") as client,
    ):
        port = free_port()
        made = {
            **ours,
            "redis_url": server.url,
            "prefix": _PREFIX,
            "output_store": directory.as_uri(),
            "metrics_address": f"127.0.0.1:{port}",
            "log_level": "warning",
        }
        log = directory / "worker.log"
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", program],
                cwd=directory,  # where there is no .env: what it says is in the settings already
                env=_environment(settings, made),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
            )
        try:
            assert server.pid is not None
            service = Service(
                client,
                worker,
                objects=objects,
                metrics_port=port,
                log=log,
                redis_pid=server.pid,
            )
            service.run(len(FORMATS))
            yield service
        finally:
            worker.terminate()
            try:
                worker.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def write_objects(
    store: Path,
    lengths: Lengths,
    formats: Sequence[tuple[str, tuple[str, ...]]] = FORMATS,
    *,
    clips: int = DIFFERENT_CLIPS,
) -> Iterator[str]:
    """Write so many clips, in turn in each of the formats; gives their keys."""
    for number, samples in enumerate(draw(lengths, clips)):
        suffix, options = formats[number % len(formats)]
        drawn, target = store / "drawn.wav", store / f"{number}{suffix}"
        write_wav(drawn, samples)
        convert(drawn, target, *options)
        yield target.name


def _environment(settings: WorkerSettings, ours: dict[str, str]) -> dict[str, str]:
    """This program's variables, with the settings that were made, and `ours` before them."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("EMO_")}
    made = settings.model_dump(
        include=settings.model_fields_set,
        exclude={"s3_access_key", "s3_secret_key"},  # the store is a directory
        exclude_none=True,
    )
    return {
        **others,
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        **{variable(name): str(value) for name, value in {**made, **ours}.items()},
    }
