"""How long a worker takes until it is ready: with no program compiled yet, and with all of them."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

import structlog
import torch

from bench.gpu.device import model
from bench.gpu.found import Found
from worker.engine.engine import Engine

_TIMED = "import json, bench.gpu.start as s; print(json.dumps(s.start()))"


def measure(found: Found, *, dry: bool) -> None:
    """Each start is a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            found.step(name, lambda: _timed(cache))


def _timed(cache: str) -> dict[str, Any]:
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", _TIMED],
        env={**os.environ, "TRITON_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(process.stderr[-1000:])
    seconds = time.monotonic() - started
    print(seconds, process.stdout.splitlines()[-1], flush=True)
    return {"process_seconds": seconds, "said": process.stdout.splitlines()[-1]}


def start() -> dict[str, Any]:
    """Load and warm up, as a worker does. Seconds of each."""
    began = time.monotonic()
    loaded = model()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    weights = time.monotonic()
    engine = Engine(loaded, tape_slots=None if torch.cuda.is_available() else 300, window_seconds=1)
    with structlog.testing.capture_logs() as logs:
        engine.warm_up()
    return {
        "weights_seconds": weights - began,
        "warm_up_seconds": time.monotonic() - weights,
        "events": [entry["event"] for entry in logs],
    }
