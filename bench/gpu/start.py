"""How long a worker takes until it is ready: with no program compiled yet, and with all of them."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from bench.gpu.found import Found


def measure(found: Found, *, dry: bool) -> None:
    """Each start is a process of its own."""
    with tempfile.TemporaryDirectory() as cache:
        for name in ("cold", "warm"):
            found.step(name, lambda: _timed(cache))


def _timed(cache: str) -> dict[str, Any]:
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "bench.gpu.one_start"],
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
