"""A real worker process for end-to-end tests, with its log at hand."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.polling import until

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "data" / "parity" / "tiny"
CLIPS = ROOT / "tests" / "data" / "parity" / "wav"
SAMPLES = ROOT / "samples"
START_SECONDS = 120.0


class WorkerProcess:
    """`python -m worker run`, in a process of its own."""

    def __init__(self, log: Path, settings: dict[str, str]) -> None:
        self._log = log
        environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "run"],
                cwd=log.parent,  # away from a developer's .env
                env={**environment, "PYTHONPATH": str(ROOT), **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def events(self) -> list[dict[str, Any]]:
        """What it has logged."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first log event of that name, waiting for it."""

        def named() -> list[dict[str, Any]]:
            ended = not self.alive()  # asked first: what it logs last is still seen
            found = [logged for logged in self.events() if logged["event"] == event]
            assert found or not ended, f"no {event} in the worker's log:\n{self._log.read_text()}"
            return found

        return until(named, START_SECONDS)[0]

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout_seconds: float = 60.0) -> int:
        """Its exit status."""
        return self._process.wait(timeout_seconds)

    def end(self) -> None:
        """Kill it, where it still runs."""
        self._process.kill()
        self._process.wait()


@contextmanager
def worker_process(
    directory: Path, redis_url: str, store: Path | str, name: str = "worker", **settings: str
) -> Iterator[WorkerProcess]:
    """A worker that is ready, on the tiny checkpoint unless told otherwise; killed at the end."""
    worker = WorkerProcess(
        directory / f"{name}.log",
        {
            "EMO_REDIS_URL": redis_url,
            "EMO_STORE": store.as_uri() if isinstance(store, Path) else store,
            "EMO_OUTPUT_STORE": directory.as_uri(),
            "EMO_MODEL": str(TINY),
            "EMO_DEVICE": "cpu",
            "EMO_DTYPE": "float32",
            "EMO_METRICS_ADDRESS": "",
            "EMO_DECODE_PROCESSES": "1",
            "EMO_TAPE_SLOTS": "1600",
            **settings,
        },
    )
    try:
        worker.wait_for("worker.ready")
        yield worker
    finally:
        worker.end()
