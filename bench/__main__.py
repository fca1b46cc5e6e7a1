"""`python -m bench`: the engine against the reference implementation, side by side in one run.

Each side has a process of its own, the same weights and clips, and threads = cores. They take
turns, so that a busy machine slows both; what counts is the median of the rounds' ratios.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from bench.workload import draw_clips, write_checkpoint
from worker.clip import SAMPLE_RATE_HZ

ROOT = Path(__file__).resolve().parents[1]
REFERENCE_PYTHON = ROOT / ".venv-reference" / "bin" / "python"
RESULTS = ROOT / "bench" / "results"


class Side:
    """One side's process. A round is run when it is asked for."""

    def __init__(self, python: Path, name: str, *arguments: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [str(python), str(ROOT / "bench" / "sides.py"), name, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.scores = np.array(self._answer()["scores"])

    def round(self) -> dict[str, float]:
        """Wall and CPU seconds of all clips, once."""
        assert self._process.stdin is not None
        print("go", file=self._process.stdin, flush=True)
        return self._answer()

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: {self.name} ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main(
    size: Annotated[str, typer.Option(help="`large` or `tiny`, with random weights.")] = "large",
    dtype: Annotated[str, typer.Option(help="Ours, as EMO_DTYPE.")] = "float32",
    clips: Annotated[int, typer.Option(help="Clips of 1.5 to 12 s, uniformly drawn.")] = 6,
    rounds: Annotated[int, typer.Option(help="Rounds; each runs both sides.")] = 7,
    save: Annotated[str, typer.Option(help="Write bench/results/NAME.json.")] = "",
) -> None:
    """Seconds of audio per second (RTFx), ours and the reference's, and their ratio."""
    if not REFERENCE_PYTHON.exists():
        raise SystemExit("bench: the reference is not installed; run it as `make bench`")
    samples = draw_clips(clips)
    audio_seconds = sum(map(len, samples)) / SAMPLE_RATE_HZ
    cores = len(os.sched_getaffinity(0))
    sides: list[Side] = []
    with tempfile.TemporaryDirectory() as place:
        directory = write_checkpoint(Path(place) / "model", size)
        clips_file = Path(place) / "clips.npz"
        np.savez(clips_file, *samples)
        arguments = (str(directory), str(clips_file), str(cores), dtype)
        try:
            for python, name in ((Path(sys.executable), "ours"), (REFERENCE_PYTHON, "reference")):
                sides.append(Side(python, name, *arguments))
            turns = [[side.round() for side in sides] for _ in range(rounds)]
        finally:
            for side in sides:
                side.end()
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": cores,
        "model": f"random:{size}",
        "dtype": dtype,
        "clips": clips,
        "audio_seconds": round(audio_seconds, 1),
        "rounds": rounds,
        "largest_score_difference": float(np.abs(sides[0].scores - sides[1].scores).max()),
    }
    for clock in ("wall", "cpu"):
        ours, reference = ([turn[i][clock] for turn in turns] for i in (0, 1))
        ratios = [r / o for o, r in zip(ours, reference, strict=True)]
        report[f"rtfx_ours_{clock}"] = round(audio_seconds / statistics.median(ours), 2)
        report[f"rtfx_reference_{clock}"] = round(audio_seconds / statistics.median(reference), 2)
        report[f"ratio_{clock}"] = [
            round(f(ratios), 3) for f in (statistics.median, min, max)
        ]  # fmt: skip
    if save:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{save}.json").write_text(json.dumps(report, indent=2) + "\n")
    table = Table("what", "value", box=None)
    for name, value in report.items():
        table.add_row(name, str(value))
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
