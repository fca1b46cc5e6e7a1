"""`python -m bench.gpu.one_start`: loads and warms up once, as a worker does, and says how long."""

import json
import time
from typing import Any

import structlog
import torch

from bench.gpu.device import model
from worker.engine.engine import Engine


def start() -> dict[str, Any]:
    """Seconds of loading and of warming up, and what was logged."""
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


if __name__ == "__main__":
    print(json.dumps(start()))
