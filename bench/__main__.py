"""`python -m bench`: the engine against the reference implementation, side by side in one run.

Each side has a process of its own, the same weights and clips, and threads = cores. They take
turns, so that a busy machine slows all; what counts is the median of the rounds' ratios. Then the
worker's own measurements run, part by part.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.chart import write_chart
from bench.compare import compare
from bench.parts import measure_parts
from bench.report import sheet
from bench.result import RESULTS, write_result
from bench.side import REFERENCE_PYTHON
from worker.bench.show import sheets

LEAST_ROUNDS = 7
_QUICK_ROUNDS, _QUICK_SECONDS, _SECONDS = 2, 0.2, 10.0


def main(
    size: Annotated[str, typer.Option(help="`large` or `tiny`, with random weights.")] = "large",
    count: Annotated[
        int, typer.Option(help="Clips of each workload; 0 for what suits the device.", min=0)
    ] = 0,
    rounds: Annotated[
        int, typer.Option(help="Each runs all sides once.", min=LEAST_ROUNDS)
    ] = LEAST_ROUNDS,
    output: Annotated[Path, typer.Option(help="Where the result is kept.")] = RESULTS,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two rounds of the tiny model, and nothing is kept.")
    ] = False,
) -> None:
    """Ours and the reference side by side, then each part of the worker alone."""
    if not REFERENCE_PYTHON.exists():
        raise SystemExit("bench: the reference is not installed; run it as `make bench`")
    if quick:
        size, rounds = "tiny", _QUICK_ROUNDS
    console = Console(width=None if sys.stdout.isatty() else 150)
    comparison = compare(size, count=count, rounds=rounds)
    console.print(sheet(comparison).rich(), "")
    for warning in comparison.warnings:
        print(f"do not trust these figures: {warning}", file=sys.stderr)
    parts = []
    for part in measure_parts(comparison.model, seconds=_QUICK_SECONDS if quick else _SECONDS):
        for each in sheets(part):
            console.print(each.rich(), "")
        parts.append(part)
    if not quick:
        whole = replace(comparison, parts=tuple(parts))
        path = write_result(whole, output)
        print(path, write_chart(whole, path.with_suffix(".svg")), sep="\n")


if __name__ == "__main__":
    typer.run(main)
