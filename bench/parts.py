"""What the worker's own measurements say, run after the comparison and kept beside it."""

import subprocess
import sys
from collections.abc import Iterator

from pydantic import TypeAdapter

from bench.side import ROOT
from worker.bench.choices import Part
from worker.bench.report import Report

_REPORT = TypeAdapter(Report)
# Of a short run of the service much is its first tape and its last, which are short too.
_TIMES_AS_LONG = {Part.END_TO_END: 3}


def measure_parts(model: str, *, seconds: float) -> Iterator[Report]:
    """Run `python -m worker bench` for each part, `seconds` or more for each figure."""
    for part in Part:
        command = [sys.executable, "-m", "worker", "bench", part.value, "--json"]
        part_seconds = seconds * _TIMES_AS_LONG.get(part, 1)
        options = ["--model", model, "--seconds", str(part_seconds)]
        ran = subprocess.run(
            [*command, *options], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        if ran.returncode:
            raise SystemExit(f"bench: {' '.join(command)} failed; what it said is above")
        yield _REPORT.validate_json(ran.stdout)
