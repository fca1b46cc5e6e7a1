"""The sides of a comparison, each a process of its own that runs a round when it is told to.

`python bench/sides.py reference …` runs in an environment that has FunASR and nothing of ours; so
this file imports what each side needs only where that side begins.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Scores = list[list[float]]
Clips = list[np.ndarray]
Classify = Callable[[Clips], Scores]


def serve(classify: Classify, workloads: dict[str, Clips], about: dict[str, Any]) -> None:
    """Answer in JSON: once warm, with scores and `about`; then each line of input with its times.

    A line names a workload, and says `all` for its clips as one piece of work, or `alone` for one
    after another.
    """
    scores = {name: classify(clips) for name, clips in workloads.items()}
    print(json.dumps({"scores": scores, **about}), flush=True)
    for line in sys.stdin:
        name, how = line.split()
        clips = workloads[name]
        pieces = [clips] if how == "all" else [[clip] for clip in clips]
        took = []
        cpu = time.process_time()
        for piece in pieces:
            started = time.perf_counter()
            classify(piece)
            took.append(time.perf_counter() - started)
        print(json.dumps({"seconds": took, "cpu": time.process_time() - cpu}), flush=True)


def ours(
    directory: Path, workloads: dict[str, Clips], cores: int, dtype: str
) -> tuple[Classify, dict[str, Any]]:
    """All clips of a piece of work as one batch, from samples to scores."""
    import torch  # noqa: PLC0415 (this side only)

    from worker.bench.engine import device_name, predict, tape_fill  # noqa: PLC0415
    from worker.engine.engine import Engine  # noqa: PLC0415
    from worker.model.device import resolve_device, resolve_dtype  # noqa: PLC0415
    from worker.model.weights import load  # noqa: PLC0415
    from worker.stages.normalize import Normalize  # noqa: PLC0415
    from worker.tape import Segment  # noqa: PLC0415

    torch.set_num_threads(cores)
    device = resolve_device("auto")
    engine = Engine(load(directory, device=device, dtype=resolve_dtype(dtype, device)))
    engine.warm_up()
    normalize = Normalize(window_seconds=30)

    def segments(clips: Clips) -> list[Segment]:
        whole = [normalize.clip(samples) for samples in clips]
        return [Segment(clip, clip.windows[0]) for clip in whole]

    def classify(clips: Clips) -> Scores:
        predictions = predict(engine, segments(clips))
        return [list(prediction.scores.values()) for prediction in predictions]

    fill = {name: tape_fill(engine, segments(clips)) for name, clips in workloads.items()}
    return classify, {"gpu": device_name(engine), "tape_fill": fill}


def reference(directory: Path, cores: int) -> tuple[Classify, dict[str, Any]]:
    """FunASR's AutoModel, a clip at a time: the stock way."""
    import torch  # noqa: PLC0415 (this side only)
    from funasr import AutoModel  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # `ncpu`: it would set 4 threads for the whole process otherwise.
    model = AutoModel(
        model=str(directory), device=device, ncpu=cores, disable_update=True, disable_pbar=True
    )

    def classify(clips: Clips) -> Scores:
        scores = []
        for samples in clips:
            (result,) = model.generate(samples, granularity="utterance", extract_embedding=False)
            scores.append(result["scores"])
        return scores

    return classify, {}


def main(side: str, directory: str, clips_file: str, cores: str, dtype: str) -> None:
    """Load, warm up, and serve rounds. What the libraries print goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    workloads: dict[str, Clips] = {}
    with np.load(clips_file) as arrays:
        for name, samples in arrays.items():
            workloads.setdefault(name.partition("/")[0], []).append(samples)
    if side == "ours":
        classify, about = ours(Path(directory), workloads, int(cores), dtype)
    else:
        classify, about = reference(Path(directory), int(cores))
    sys.stdout = answers
    serve(classify, workloads, about)


if __name__ == "__main__":
    main(*sys.argv[1:])
