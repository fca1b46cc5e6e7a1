"""The workers of a run: forked from one parent, and started again as an orchestrator would."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.patience import eventually
from tests.chaos.worker import DIED_OF_JOB
from tests.support.ports import own_port
from tests.support.worker_process import ROOT

START_SECONDS = 60.0
_RESTART_SECONDS = 0.2
_SCRAPE_SECONDS = 60.0
# Workers share the cores with everything else here, so one thread each.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(eq=False)
class Worker:
    """One worker process, while it lives and after."""

    slot: int
    log: Path
    metrics_port: int
    pid: int = 0
    told: set[signal.Signals] = field(default_factory=set)
    status: int | None = None  # exit status, negative for a signal

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.status is None

    def events(self, *names: str) -> list[dict[str, Any]]:
        """What it has logged, of those names; a line that a kill cut short is left out."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and (not names or event.get("event") in names):
                found.append(event)
        return found

    @property
    def ready(self) -> bool:
        """Whether it takes jobs."""
        return self.alive and self.owner is not None

    @property
    def owner(self) -> str | None:
        """Its name as a consumer; None before it has one."""
        return next((event["owner"] for event in self.events("worker.ready")), None)

    @property
    def died_of_job(self) -> bool:
        """Whether a job that kills workers has ended it."""
        return DIED_OF_JOB in self.log.read_text(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens to one that has ended."""
        if not self.alive:
            return
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.told.add(number)
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.kill(self.pid, number)

    def fenced(self, timeout_seconds: float = _SCRAPE_SECONDS) -> float:
        """Results and retries that it was too late with. Raises OSError as `metrics` does."""
        totals = self.metrics(timeout_seconds)
        return totals["emostream_finishes_fenced_total"] + totals["emostream_retries_fenced_total"]

    def metrics(self, timeout_seconds: float = _SCRAPE_SECONDS) -> dict[str, float]:
        """Its counters and gauges, summed over labels.

        Raises OSError where it is not there, or does not answer in that time.
        """
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        with urlopen(url, timeout=timeout_seconds) as answer:
            text = answer.read().decode()
        totals: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        return totals


class Nursery:
    """The process that forks workers. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
        with (directory / "nursery.log").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.nursery"],
                cwd=directory,
                env={**environment, **_ENVIRONMENT, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is for the harness alone
            )
        self._asking = threading.Lock()
        self._asked = SimpleQueue[tuple[Fleet, Worker]]()
        self._born = SimpleQueue[Worker]()
        self._living: dict[int, tuple[Fleet, Worker]] = {}  # the reader's
        assert self._process.stdout
        if not self._process.stdout.readline():
            raise RuntimeError((directory / "nursery.log").read_text())
        self._reader = threading.Thread(target=self._read, name="nursery", daemon=True)
        self._reader.start()

    def fork(self, fleet: "Fleet", slot: int, log: Path, settings: Mapping[str, str]) -> Worker:
        """A new worker of the fleet, which is told when it ends."""
        port = own_port()
        address = {"EMO_METRICS_ADDRESS": f"127.0.0.1:{port}"}
        request = json.dumps({"log": str(log), "settings": {**settings, **address}})
        log.touch()
        with self._asking:
            assert self._process.stdin
            self._asked.put((fleet, Worker(slot, log, port)))
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
            return self._born.get()

    def close(self) -> None:
        """End it, and all workers that are left."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            told = json.loads(line)
            if "status" in told:
                fleet, worker = self._living.pop(told["pid"])
                worker.status = told["status"]
                fleet.ended(worker)
            else:
                fleet, worker = self._asked.get()
                worker.pid = told["pid"]
                self._living[worker.pid] = fleet, worker
                self._born.put(worker)


@contextmanager
def nursery(directory: Path) -> Iterator[Nursery]:
    """A nursery that ends with the block."""
    directory.mkdir(parents=True, exist_ok=True)
    running = Nursery(directory)
    try:
        yield running
    finally:
        running.close()


class Fleet:
    """So many slots with a worker in each; what ends in one is replaced while `keep` is set."""

    def __init__(self, parent: Nursery, directory: Path, settings: Mapping[str, str]) -> None:
        self.workers: list[Worker] = []  # all there ever were
        self.keep = True
        self.of_slot: dict[int, dict[str, str]] = {}  # settings of one slot alone
        self._parent = parent
        self._directory = directory
        self._settings = dict(settings)
        self._lock = threading.Lock()

    def start(self, slot: int, **settings: str) -> Worker:
        """A worker in a slot, with settings of its own; returns before it is ready."""
        with self._lock:
            log = self._directory / f"worker-{slot}-{len(self.workers)}.log"
            own = self.of_slot.get(slot, {})
            worker = self._parent.fork(self, slot, log, {**self._settings, **own, **settings})
            self.workers.append(worker)
        return worker

    def start_ready(self, *slots: int, **settings: str) -> list[Worker]:
        """Workers in these slots, once all of them take jobs."""
        started = [self.start(slot, **settings) for slot in slots]
        eventually(lambda: all(each.ready for each in started), START_SECONDS, "workers start")
        return started

    def living(self) -> list[Worker]:
        """Those that have not ended."""
        return [worker for worker in list(self.workers) if worker.alive]

    def ended(self, worker: Worker) -> None:
        """A worker has ended: an orchestrator starts another."""
        if self.keep:
            restart = threading.Timer(_RESTART_SECONDS, self._replace, [worker.slot])
            restart.daemon = True
            restart.start()

    def drain(self, timeout_seconds: float = 30.0) -> None:
        """SIGTERM to all, and wait until they have ended."""
        self.keep = False
        eventually(
            lambda: all(each.ready for each in self.living()), START_SECONDS, "workers start"
        )
        for worker in self.living():
            worker.signal(signal.SIGTERM)
        eventually(lambda: not self.living(), timeout_seconds, "workers drain")

    def kill(self) -> None:
        """End all at once."""
        self.keep = False
        for worker in self.living():
            worker.signal(signal.SIGKILL)
        eventually(lambda: not self.living(), START_SECONDS, "killed workers end")

    def _all_ready(self) -> bool:
        return all(worker.ready for worker in self.living())

    def _replace(self, slot: int) -> None:
        if self.keep:
            self.start(slot)
