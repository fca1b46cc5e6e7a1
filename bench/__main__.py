"""`python -m bench`: what batching on a tape gives against one clip at a time, on this machine.

Both sides take turns on the same clips in the same process, so that a busy machine slows both. What
counts is the median of the rounds' ratios; seconds of audio per second (RTFx) says where that is.
"""

import json
import statistics
import sys
import time
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from storage.settings import load
from worker.clip import SAMPLE_RATE_HZ, Clip, Waveform
from worker.engine import Engine
from worker.loading import load_engine
from worker.settings import WorkerSettings
from worker.stages.normalize import Normalize
from worker.tape import Segment

SHORTEST_SECONDS, LONGEST_SECONDS = 1.5, 12.0


def main(
    model: Annotated[str, typer.Option(help="As EMO_MODEL.")] = "random:tiny",
    device: Annotated[str, typer.Option(help="As EMO_DEVICE.")] = "auto",
    dtype: Annotated[str, typer.Option(help="As EMO_DTYPE.")] = "auto",
    clips: Annotated[int, typer.Option(help="Clips of 1.5 to 12 s, uniformly drawn.")] = 24,
    rounds: Annotated[int, typer.Option(help="Rounds; each runs both sides.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Engine alone: tapes against one clip at a time."""
    settings = load(WorkerSettings).model_copy(
        update={"model": model, "device": device, "dtype": dtype}
    )
    engine = load_engine(settings)
    segments = _segments(clips, settings.window_seconds)
    audio_seconds = sum(s.clip.waveform.duration_seconds for s in segments)
    alone_seconds, tape_seconds = [], []
    for _ in range(rounds):
        alone_seconds.append(_timed(engine, [[segment] for segment in segments]))
        tape_seconds.append(_timed(engine, [segments]))
    ratios = [a / t for a, t in zip(alone_seconds, tape_seconds, strict=True)]
    report = {
        "model": model,
        "device": str(engine.model.device),
        "dtype": str(engine.model.dtype).removeprefix("torch."),
        "clips": clips,
        "audio_seconds": round(audio_seconds, 1),
        "rounds": rounds,
        "rtfx_alone": round(audio_seconds / statistics.median(alone_seconds), 1),
        "rtfx_tape": round(audio_seconds / statistics.median(tape_seconds), 1),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }
    if as_json:
        print(json.dumps(report))
        return
    table = Table("what", "value", box=None)
    for name, value in report.items():
        table.add_row(name, str(value))
    Console(file=sys.stdout).print(table)


def _segments(clips: int, window_seconds: float) -> list[Segment]:
    """Windows of seeded noise clips."""
    random = np.random.default_rng(0)
    normalize = Normalize(window_seconds)
    found = []
    for seconds in random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS, clips):
        samples = random.normal(0, 0.1, int(seconds * SAMPLE_RATE_HZ)).astype(np.float32)
        clip: Clip = normalize(Waveform(samples))
        found += [Segment(clip, window) for window in clip.windows]
    return found


def _timed(engine: Engine, batches: list[list[Segment]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        engine.run(batch)
    return time.perf_counter() - started


if __name__ == "__main__":
    typer.run(main)
