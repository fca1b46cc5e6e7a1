"""Asks torch in a process of its own: one that does not import, crashes or hangs is a finding."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = "worker.engine.report"
IMPORT_SECONDS = 90.0  # from a cold disk it may take half a minute


@dataclass(frozen=True, slots=True)
class TorchReport:
    """What the process said by its steps, and why it did not come to its end: "" if it did."""

    steps: dict[str, dict[str, Any]]
    fault: str = ""

    def of(self, step: str) -> dict[str, Any]:
        """What it said at a step; {} where it did not get there."""
        return self.steps.get(step, {})


def ask_torch(
    device: str, dtype: str, limit_seconds: float = IMPORT_SECONDS, *, resample: str = "ffmpeg"
) -> TorchReport:
    """Run `worker.engine.report`. None of our secrets are given to it."""
    environment = {name: os.environ[name] for name in os.environ if not name.startswith("EMO_")}
    command = [sys.executable, "-m", _PROGRAM, device, dtype, resample, str(os.getpid())]
    try:
        ran = subprocess.run(
            command,
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return TorchReport(
            _steps(error.stdout), f"it hung, and was ended after {limit_seconds:g} s"
        )
    return TorchReport(_steps(ran.stdout), _fault(ran) if ran.returncode else "")


def _steps(said: bytes | None) -> dict[str, dict[str, Any]]:
    steps = {}
    for line in (said or b"").splitlines():
        with suppress(ValueError, KeyError, TypeError):  # libraries print, too
            found = json.loads(line)
            steps[found.pop("step")] = found
    return steps


def _fault(ran: subprocess.CompletedProcess[bytes]) -> str:
    if ran.returncode < 0:
        return f"it was killed by signal {-ran.returncode}"
    lines = ran.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with {ran.returncode}"
