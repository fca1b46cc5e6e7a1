"""The comparison itself: all sides, on all workloads, in turn."""

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bench.result import Comparison, SideResult, Workload
from bench.side import REFERENCE_PYTHON, Side, Turn
from bench.workload import write_checkpoint, write_clips
from worker.bench.choices import Lengths
from worker.bench.clips import draw
from worker.bench.machine import LoadWatch, describe_machine
from worker.bench.report import Latency, Spread
from worker.clip import SAMPLE_RATE_HZ
from worker.model.device import half_dtypes, resolve_device

_CLIPS_CPU, _CLIPS_GPU = 6, 512

Turns = dict[Lengths, list[dict[Side, Turn]]]  # for each workload and round, every side's


def compare(size: str, *, count: int, rounds: int) -> Comparison:
    """Run `rounds` rounds of each workload of `count` clips; 0 clips for what suits the device."""
    device = resolve_device("auto")
    count = count or (_CLIPS_CPU if device.type == "cpu" else _CLIPS_GPU)
    audio_seconds = {
        lengths: sum(map(len, draw(lengths, count))) / SAMPLE_RATE_HZ for lengths in Lengths
    }
    dtypes = ["float32", *(str(half).removeprefix("torch.") for half in half_dtypes(device))]
    watch = LoadWatch()
    with ExitStack() as running:
        sides = _start(size, dtypes, count, running)
        turns: Turns = {lengths: [] for lengths in Lengths}
        for _ in range(rounds):
            for lengths, taken in turns.items():
                taken.append({side: side.turn(lengths) for side in sides})
        warnings = tuple(watch.warnings())
    return Comparison(
        machine=describe_machine(sides[0].gpu),
        model=f"random:{size}",
        rounds=rounds,
        warnings=warnings,
        workloads=tuple(
            Workload(
                clips=lengths.value,
                meaning=lengths.meaning,
                count=count,
                audio_seconds=seconds,
                sides=tuple(
                    summary(
                        side,
                        sides[-1],
                        lengths,
                        audio_seconds=seconds,
                        ours=[taken[side] for taken in turns[lengths]],
                        theirs=[taken[sides[-1]] for taken in turns[lengths]],
                    )
                    for side in sides
                ),
            )
            for lengths, seconds in audio_seconds.items()
        ),
    )


def _start(size: str, dtypes: Sequence[str], count: int, running: ExitStack) -> list[Side]:
    """Ours in each dtype, then the reference, as it comes: in float32. `running` ends them."""
    place = Path(running.enter_context(tempfile.TemporaryDirectory()))
    model = write_checkpoint(place / "model", size)
    clips = write_clips(place / "clips.npz", {lengths: draw(lengths, count) for lengths in Lengths})
    ours = Path(sys.executable)
    sides = []
    for python, name, dtype in (
        *((ours, "ours", dtype) for dtype in dtypes),
        (REFERENCE_PYTHON, "reference", "float32"),
    ):
        cores = len(os.sched_getaffinity(0))
        side = Side(python, name, dtype, directory=model, clips=clips, cores=cores)
        running.callback(side.end)
        sides.append(side)
    return sides


def summary(
    side: Side,
    reference: Side,
    lengths: Lengths,
    *,
    audio_seconds: float,
    ours: Sequence[Turn],
    theirs: Sequence[Turn],
) -> SideResult:
    """What the rounds say of one side on one workload; `theirs` are the reference's rounds."""
    scores = side.scores(lengths)
    wall_seconds = statistics.median(turn.wall_seconds for turn in ours)
    cpu_seconds = statistics.median(turn.cpu_seconds for turn in ours)
    ratios = [b.wall_seconds / a.wall_seconds for a, b in zip(ours, theirs, strict=True)]
    is_reference = side is reference
    return SideResult(
        name=side.name,
        dtype=side.dtype,
        rtfx=audio_seconds / wall_seconds,
        clips_per_second=len(scores) / wall_seconds,
        cpu_seconds_per_audio_second=cpu_seconds / audio_seconds,
        latency=Latency.of([seconds for turn in ours for seconds in turn.alone_seconds]),
        tape_fill=side.tape_fill.get(lengths),
        ratio=None if is_reference else Spread.of(ratios),
        largest_score_difference=None
        if is_reference
        else float(np.abs(scores - reference.scores(lengths)).max()),
    )
