"""How full the lanes are, and what workers and the machine do, again and again during a run."""

import os
import re
import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import psutil

from producer.client import Client
from producer.stress.report import Sample
from storage.redis.connection import RedisError

_Identity = tuple[int, float]  # a process: a number alone may be another's later
_OWNER = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class _Look:
    """One look; what is told by worker is of all, until it is known whose run it is."""

    sample: Sample
    wall_seconds: float
    cpu_seconds: Mapping[str, float]
    said: Mapping[str, tuple[float | None, float | None]]  # device share, tape fill

    def of(self, workers: Collection[str]) -> Sample:
        """The same of these workers."""
        spent = [seconds for name, seconds in self.cpu_seconds.items() if name in workers]
        said = [both for name, both in self.said.items() if name in workers]
        return replace(
            self.sample,
            worker_cores=round(sum(spent) / self.wall_seconds, 3) if spent else None,
            device_busy=_mean(share for share, _ in said),
            tape_fill=_mean(fill for _, fill in said),
        )


class Sampler:
    """Looks every so often, from `start` until `stop`. `faults` say what could not be seen."""

    def __init__(self, client: Client, *, every_seconds: float, workers: Iterable[str]) -> None:
        """`workers` are names that are known, and all that speak meanwhile are added.

        The processes of those of this machine are looked at too.
        """
        self.faults: dict[str, str] = {}
        self._client = client
        self._lanes = client.operator.lanes
        self._every_seconds = every_seconds
        self._processes: dict[str, psutil.Process | None] = {}
        self._meter = Meter()
        self._looks: list[_Look] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sample", daemon=True)
        self._add(workers)

    def start(self, start: float) -> None:
        """Begin; samples count their time from `start`, a time of `time.monotonic`."""
        self._start = start
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        self._thread.join()

    def samples(self, workers: Collection[str]) -> list[Sample]:
        """What was seen, of those workers: the names that all results hold."""
        return [look.of(workers) for look in self._looks]

    def _work(self) -> None:
        self._begin()
        while not self._stopped.wait(self._every_seconds):
            self._look()

    def _begin(self) -> None:
        """From now on CPU time counts."""
        self._told()
        self._ourselves = psutil.Process()
        psutil.cpu_percent()
        self._spent, self._at = _seconds(self._ourselves), time.monotonic()
        self._took()

    def _look(self) -> None:
        busy, spent, at = psutil.cpu_percent() / 100, self._spent, self._at
        theirs = self._took()
        self._spent, self._at = _seconds(self._ourselves), time.monotonic()
        wall, said = self._at - at, self._told()
        sample = Sample(
            round(self._at - self._start, 3),
            *self._jobs(),
            cpu=round(busy, 3),
            sender_cores=round((self._spent - spent) / wall, 3),
        )
        self._looks.append(_Look(sample, wall, theirs, said))

    def _took(self) -> dict[str, float]:
        """CPU seconds since the last look, of each worker of this machine that it saw too."""
        took = {name: self._meter.took(one) for name, one in self._processes.items() if one}
        return {name: seconds for name, seconds in took.items() if seconds is not None}

    def _add(self, workers: Iterable[str]) -> None:
        for name in workers:
            if name not in self._processes:
                self._processes[name] = _local_process(name)

    def _jobs(self) -> tuple[int | None, int | None, int | None]:
        try:
            state = self._lanes.look()
        except RedisError as error:
            self.faults["lanes"] = str(error)
            return None, None, None
        lanes = state.lanes
        return sum(x.queued for x in lanes), sum(x.in_flight for x in lanes), state.delayed

    def _told(self) -> dict[str, tuple[float | None, float | None]]:
        """How busy their devices are and how full their tapes, as workers said last."""
        try:
            fleet = self._client.workers().workers
        except RedisError as error:
            self.faults["workers"] = str(error)
            return {}
        self._add(worker.name for worker in fleet)
        return {worker.name: (worker.device_share, worker.tape_fill) for worker in fleet}


class Meter:
    """CPU time of workers and their children, which come and go. Not thread-safe."""

    def __init__(self) -> None:
        self._workers: set[psutil.Process] = set()
        self._seconds: dict[_Identity, float] = {}

    def took(self, worker: psutil.Process) -> float | None:
        """Seconds since the last look; None at the first. What has ended took none."""
        # A child that is new began since; of a worker that is new, all was before.
        began = worker in self._workers
        took = 0.0
        for identity, seconds in filter(None, map(_identified, _family(worker))):
            self._workers.add(worker)
            took += max(0.0, seconds - self._seconds.get(identity, 0.0 if began else seconds))
            self._seconds[identity] = seconds
        return took if began else None


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


def _identified(process: psutil.Process) -> tuple[_Identity, float] | None:
    """Which process it is, and its CPU time so far; None where it has ended."""
    try:
        times = process.cpu_times()
        return (process.pid, process.create_time()), float(times.user + times.system)
    except psutil.Error:
        return None


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def cores() -> int:
    """How many this program may use."""
    return len(os.sched_getaffinity(0))
