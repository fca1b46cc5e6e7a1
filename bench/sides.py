"""The two sides of a comparison, each a process of its own that runs a round when it is told to.

`python bench/sides.py reference …` runs in an environment that has FunASR and nothing of ours; so
this file imports what each side needs only where that side begins.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Scores = list[list[float]]


def serve(classify: Callable[[], Scores]) -> None:
    """For each line of input run all clips once; answer with seconds and scores, as JSON."""
    scores = classify()  # warm
    print(json.dumps({"scores": scores}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        classify()
        done = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(done), flush=True)


def ours(directory: Path, clips: list[np.ndarray], cores: int, dtype: str) -> Callable[[], Scores]:
    """All clips as one workload, from samples to scores."""
    import torch  # noqa: PLC0415 (this side only)

    from worker.clip import Waveform  # noqa: PLC0415
    from worker.engine import Engine  # noqa: PLC0415
    from worker.model.device import resolve_device, resolve_dtype  # noqa: PLC0415
    from worker.model.weights import load  # noqa: PLC0415
    from worker.stages.normalize import Normalize  # noqa: PLC0415
    from worker.tape import Segment  # noqa: PLC0415

    torch.set_num_threads(cores)
    device = resolve_device("auto")
    engine = Engine(load(directory, device=device, dtype=resolve_dtype(dtype, device)))
    normalize = Normalize(window_seconds=30)

    def classify() -> Scores:
        whole = [normalize(Waveform(samples)) for samples in clips]
        outputs = engine.run([Segment(clip, clip.windows[0]) for clip in whole])
        return [list(engine.pool([output]).scores.values()) for output in outputs]

    return classify


def reference(directory: Path, clips: list[np.ndarray], cores: int) -> Callable[[], Scores]:
    """FunASR's AutoModel, a clip at a time: the stock way."""
    import torch  # noqa: PLC0415 (this side only)
    from funasr import AutoModel  # noqa: PLC0415

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # `ncpu`: it would set 4 threads for the whole process otherwise.
    model = AutoModel(
        model=str(directory), device=device, ncpu=cores, disable_update=True, disable_pbar=True
    )

    def classify() -> Scores:
        scores = []
        for samples in clips:
            (result,) = model.generate(samples, granularity="utterance", extract_embedding=False)
            scores.append(result["scores"])
        return scores

    return classify


def main(side: str, directory: str, clips_file: str, cores: str, dtype: str) -> None:
    """Load, warm up, and serve rounds. What the libraries print goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    with np.load(clips_file) as arrays:
        clips = list(arrays.values())
    if side == "ours":
        classify = ours(Path(directory), clips, int(cores), dtype)
    else:
        classify = reference(Path(directory), clips, int(cores))
    sys.stdout = answers
    serve(classify)


if __name__ == "__main__":
    main(*sys.argv[1:])
