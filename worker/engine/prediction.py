"""From what the network gives for each window of a clip to the result for the clip."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.engine.eager import SegmentOutput, Vector
from worker.model.model import Model


class Span(NamedTuple):
    """The scores of one window of a clip, by label."""

    start_seconds: float
    stop_seconds: float
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result for one clip. `scores` and the timeline's are probabilities in label order.

    `embedding` is float32 (dim,); `frames`, where asked for, float32 (frames, dim).
    """

    label: str
    score: float
    scores: dict[str, float]
    embedding: Vector
    frames: NDArray[np.float32] | None
    timeline: tuple[Span, ...]


def pool(model: Model, outputs: Sequence[SegmentOutput]) -> Prediction:
    """One clip's prediction from the outputs of all its windows, weighted by their frames.

    Raises the JobError of a window that has one.
    """
    for output in outputs:
        if output.error is not None:
            raise output.error
    embeddings = [output.embedding for output in outputs if output.embedding is not None]
    by_window = [_by_label(model, embedding) for embedding in embeddings]
    if len(outputs) == 1:
        embedding, scores = embeddings[0], by_window[0]
    else:
        weights = [output.window.frames for output in outputs]
        embedding = np.average(np.stack(embeddings), axis=0, weights=weights).astype(np.float32)
        scores = _by_label(model, embedding)
    label = max(scores, key=scores.__getitem__)
    kept = [output.frames for output in outputs if output.frames is not None]
    return Prediction(
        label=label,
        score=scores[label],
        scores=scores,
        embedding=embedding,
        frames=np.concatenate(kept) if len(kept) == len(outputs) else None,
        timeline=tuple(
            Span(output.window.start_seconds, output.window.stop_seconds, window_scores)
            for output, window_scores in zip(outputs, by_window, strict=True)
        ),
    )


def _by_label(model: Model, embedding: Vector) -> dict[str, float]:
    scores = model.classifier.scores(embedding).tolist()
    return dict(zip(model.config.labels, scores, strict=True))
