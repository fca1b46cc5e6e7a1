"""Our end of a side's process."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
REFERENCE_PYTHON = ROOT / ".venv-reference" / "bin" / "python"

_SHOWN_CHARACTERS = 4_000


@dataclass(frozen=True, slots=True)
class Turn:
    """One round of a side: seconds for all clips, wall and CPU, and for each clip alone."""

    wall_seconds: float
    cpu_seconds: float
    alone_seconds: list[float]


class Side:
    """One side's process. It runs when it is told to."""

    def __init__(
        self, python: Path, name: str, dtype: str, *, directory: Path, clips: Path, cores: int
    ) -> None:
        """Start it, and wait until it is warm."""
        self.name, self.dtype = name, dtype
        program = (str(python), str(ROOT / "bench" / "sides.py"), name)
        command = [*program, str(directory), str(clips), str(cores), dtype]
        # Libraries chatter: what they say is shown where a side fails.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `end`)
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        try:
            warm = self._answer()
        except BaseException:
            self.end()
            raise
        self.gpu: str | None = warm.get("gpu")
        self.tape_fill: dict[str, float] = warm.get("tape_fill", {})
        self._scores = warm["scores"]

    def scores(self, workload: str) -> NDArray[np.float64]:
        """Its scores (clips, labels) for a workload."""
        return np.array(self._scores[workload])

    def turn(self, workload: str) -> Turn:
        """All clips, once as one piece of work and once each alone.

        The reference takes them alone whatever it is told, so it runs them once.
        """
        alone = self._ask(workload, "alone")
        together = self._ask(workload, "all") if self.name == "ours" else alone
        return Turn(sum(together["seconds"]), together["cpu"], alone["seconds"])

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._said.close()

    def _ask(self, *words: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._said.seek(0)
            said = self._said.read().decode(errors="replace")[-_SHOWN_CHARACTERS:]
            raise SystemExit(f"bench: {self.name} ended with status {status}:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        return answer
