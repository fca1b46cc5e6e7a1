"""How full the lanes are, and what workers and the machine do, again and again during a run."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterable

import psutil

from producer.client import Client
from producer.stress.report import Sample
from storage.redis.connection import RedisError

_OWNER = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}")


class Sampler:
    """Looks every so often, from `start` until `stop`. `faults` say what could not be seen."""

    def __init__(self, client: Client, *, every_seconds: float, workers: Iterable[str]) -> None:
        """`workers` are names from results: those of this machine are looked at too."""
        self.samples: list[Sample] = []
        self.faults: dict[str, str] = {}
        self._client = client
        self._lanes = client.operator.lanes
        self._names = set(workers)
        self._every_seconds = every_seconds
        self._workers = [process for name in self._names if (process := _local_process(name))]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sample", daemon=True)

    def start(self, start: float) -> None:
        """Begin; samples count their time from `start`, a time of `time.monotonic`."""
        self._start = start
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        ourselves = psutil.Process()
        psutil.cpu_percent()
        spent, at = self._cpu_seconds(ourselves), time.monotonic()
        while not self._stopped.wait(self._every_seconds):
            busy, before, before_at = psutil.cpu_percent() / 100, spent, at
            spent, at = self._cpu_seconds(ourselves), time.monotonic()
            ours, theirs = (
                (now - then) / (at - before_at) for now, then in zip(spent, before, strict=True)
            )
            busy_share, fill = self._told()
            self.samples.append(
                Sample(
                    round(at - self._start, 3),
                    *self._jobs(),
                    cpu=round(busy, 3),
                    sender_cores=round(ours, 3),
                    worker_cores=round(max(0.0, theirs), 3) if self._workers else None,
                    device_busy=busy_share,
                    tape_fill=fill,
                )
            )

    def _jobs(self) -> tuple[int | None, int | None, int | None]:
        try:
            state = self._lanes.look()
        except RedisError as error:
            self.faults["lanes"] = str(error)
            return None, None, None
        lanes = state.lanes
        return sum(x.queued for x in lanes), sum(x.in_flight for x in lanes), state.delayed

    def _told(self) -> tuple[float | None, float | None]:
        """How busy their devices are and how full their tapes, as workers said last, on average."""
        try:
            fleet = self._client.workers().workers
        except RedisError as error:
            self.faults["workers"] = str(error)
            return None, None
        ours = [worker for worker in fleet if worker.name in self._names]
        return _mean(x.device_share for x in ours), _mean(x.tape_fill for x in ours)

    def _cpu_seconds(self, ourselves: psutil.Process) -> tuple[float, float]:
        """Of this program, and of the workers with their children."""
        return _seconds(ourselves), sum(
            _seconds(process) for worker in self._workers for process in _family(worker)
        )


def _local_process(owner: str) -> psutil.Process | None:
    """The process of a worker, by its name; None where it is not of this machine."""
    named = _OWNER.fullmatch(owner)
    if named is None or named["host"] != socket.gethostname():
        return None
    try:
        process = psutil.Process(int(named["pid"]))
        # In another container the same number may be anybody's.
        return process if "worker" in process.cmdline() else None
    except psutil.Error:
        return None


def _mean(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return round(sum(told) / len(told), 4) if told else None


def _family(worker: psutil.Process) -> list[psutil.Process]:
    try:
        return [worker, *worker.children(recursive=True)]
    except psutil.Error:
        return []


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def cores() -> int:
    """How many this program may use."""
    return len(os.sched_getaffinity(0))
