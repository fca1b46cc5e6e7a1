"""`python -m worker gpu`, as an operator runs it, with a stand-in for NVIDIA's library."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import nvml
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a machine with a card under load, and no worker."""
    readings = nvml.say(tmp_path / "readings", **nvml.BUSY)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("EMO_")},
        "LD_LIBRARY_PATH": str(nvml.library()),
        "NVML_STUB": str(readings),
        "EMO_METRICS_ADDRESS": "",
    }


def gpu(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run it."""
    command = [sys.executable, "-m", "worker", "gpu", *options]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def worker() -> Iterator[str]:
    """The address of a worker that works all of the time, on tapes that are half full."""
    metrics, over = Metrics(), threading.Event()
    metrics.in_flight.set(3)

    def work() -> None:
        while not over.wait(0.01):
            metrics.worked(0.01, 50, 100)

    server = HealthServer("127.0.0.1:0", metrics, alive=lambda: True, ready=lambda: True)
    server.start()
    thread = threading.Thread(target=work)
    thread.start()
    yield f"127.0.0.1:{server.port}"
    over.set()
    thread.join()
    server.stop()


def test_a_card_and_its_verdict(environment: dict[str, str]) -> None:
    """As a table, without a worker, which it says how to ask."""
    said = gpu(environment)
    assert said.returncode == 0, said.stderr
    lines = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert lines[0] == "GPU 0: NVIDIA A10, driver 580.159.04"
    assert "utilisation 93%" in lines
    assert "memory 6.0 of 24.0 GB" in lines
    assert "held down by power limit" in lines
    assert "verdict healthy: something runs on it 93% of the time" in lines
    assert any("--worker" in line for line in lines)


def test_a_card_that_does_not_tell_its_memory(environment: dict[str, str]) -> None:
    """As one that has the CPU's: all else is said."""
    nvml.say(Path(environment["NVML_STUB"]), **nvml.BUSY_GB10)
    said = gpu(environment)
    assert said.returncode == 0, said.stderr
    lines = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert "memory not told" in lines
    assert "verdict healthy: something runs on it 93% of the time" in lines
    found = json.loads(gpu(environment, "--json").stdout)
    assert (found["gpu"]["memory_used_bytes"], found["gpu"]["watts"]) == (None, 141.5)


def test_the_worker_knows_better(environment: dict[str, str], worker: str, tmp_path: Path) -> None:
    """Its own account decides; beside what the bench found here."""
    bench = tmp_path / "bench.json"
    bench.write_text('{"result": {"rtfx": 1000.0}}')
    said = gpu(environment, "--worker", worker, "--bench", str(bench), "--seconds", "0.5", "--json")
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["gpu"]["watts"] == 141.5
    assert found["worker"]["tape_fill"] == 0.5
    assert found["verdict"]["state"] in {"under-fed", "healthy"}  # a loaded machine works less
    assert found["worker"]["in_flight"] == 3


def test_a_worker_that_is_not_there(environment: dict[str, str]) -> None:
    """One that was asked for is a failure; the usual one may be away, and that is said."""
    said = gpu(environment, "--worker", "127.0.0.1:9")
    assert (said.returncode, said.stdout) == (1, "")
    assert "does not answer" in said.stderr
    said = gpu({**environment, "EMO_METRICS_ADDRESS": "127.0.0.1:9"})
    assert said.returncode == 0
    assert "no worker is asked" in said.stderr


def test_no_gpu_here(environment: dict[str, str], tmp_path: Path) -> None:
    """It says why, and fails; as do files that are no report of the bench."""
    nvml.say(Path(environment["NVML_STUB"]), init=18)
    said = gpu(environment)
    assert (said.returncode, said.stdout) == (1, "")
    assert "reboot" in said.stderr
    other = tmp_path / "other.json"
    other.write_text("[]")
    said = gpu(environment, "--bench", str(other))
    assert said.returncode == 1
    assert "worker bench engine --json" in said.stderr
