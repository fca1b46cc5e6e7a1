"""What segments of one recording cost beside the same cuts as files: `python -m bench.segments`.

A hundred segments of ten minutes, on the same tapes either way, in turns: from samples to scores.
"""

import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import typer

from storage.wire.messages import Job
from storage.wire.parts import Parts, SegmentAsked
from worker.clip import SAMPLE_RATE_HZ, Recording, Waveform
from worker.engine.loading import load_engine
from worker.settings import WorkerSettings
from worker.stages.infer import Infer
from worker.stages.normalize import Normalize

SECONDS, SEGMENTS, SEGMENT_SECONDS = 600.0, 100, 4.0


def main(model: str = "random:tiny", rounds: int = 7) -> None:
    """Print the medians in seconds, and how many times the files the segments cost."""
    settings = WorkerSettings(model=model)
    engine = load_engine(settings)
    engine.warm_up()
    infer, normalize = Infer(engine), Normalize(settings.window_seconds)
    samples = np.random.default_rng(0).normal(0, 0.1, int(SECONDS * SAMPLE_RATE_HZ))
    whole = Waveform(samples.astype(np.float32))
    starts = np.linspace(0, SECONDS - SEGMENT_SECONDS, SEGMENTS).round(3).tolist()
    segments = tuple(SegmentAsked(start, start + SEGMENT_SECONDS) for start in starts)
    cuts = [
        whole.samples[round(one.start_s * SAMPLE_RATE_HZ) : round(one.end_s * SAMPLE_RATE_HZ)]
        for one in segments
    ]

    def classify(recordings: list[Recording]) -> None:
        job, views = Job("x", "a.wav"), [normalize(recording) for recording in recordings]
        tapes = [segment for view in views for segment in infer.segments(job, view)]
        outputs = iter(engine.run(tapes))
        for view in views:
            windows = sum(len(clip.windows) for clip in view.clips)
            infer.conclude(view, [next(outputs) for _ in range(windows)])

    ways: dict[str, Callable[[], None]] = {
        "segments": lambda: classify([Recording(whole, parts=Parts(segments=segments))]),
        "files": lambda: classify([Recording(Waveform(cut)) for cut in cuts]),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - started)
    medians = {name: round(statistics.median(each), 3) for name, each in took.items()}
    typer.echo(  # noqa: TID251 (our own figures)
        json.dumps({**medians, "ratio": round(medians["segments"] / medians["files"], 3)})
    )


if __name__ == "__main__":
    typer.run(main)
