"""From what the network gives for each window of a clip to the result for the clip."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.clip import FRAME_STRIDE, SAMPLE_RATE_HZ
from worker.engine.eager import SegmentOutput, Vector
from worker.model.model import Model

FRAMES_PER_SECOND = SAMPLE_RATE_HZ / FRAME_STRIDE


class Span(NamedTuple):
    """The scores of one window of a clip, or of one hop, by label."""

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


def pool(
    model: Model,
    outputs: Sequence[SegmentOutput],
    *,
    labels: Sequence[int] = (),
    hop_seconds: float | None = None,
    start_seconds: float = 0.0,
) -> Prediction:
    """One prediction from the outputs of all windows of a clip, weighted by their frames.

    `labels` are those that count, by their numbers, where not all do. The timeline's items are the
    windows, or where the logits of the frames were kept, hops; its seconds begin at
    `start_seconds`. Raises the JobError of a window that has one.
    """
    for output in outputs:
        if output.error is not None:
            raise output.error
    embeddings = [output.embedding for output in outputs if output.embedding is not None]
    embedding = embeddings[0]
    if len(outputs) > 1:
        weights = [output.window.frames for output in outputs]
        embedding = np.average(np.stack(embeddings), axis=0, weights=weights).astype(np.float32)
    if len(outputs) == 1 and outputs[0].scores is not None and not labels:
        scores = dict(zip(model.config.labels, outputs[0].scores, strict=True))
    else:
        scores = _by_label(model, model.classifier.logits(embedding), labels)
    label = max(scores, key=scores.__getitem__)
    kept = [output.frames for output in outputs if output.frames is not None]
    if hop_seconds is not None:
        spans = [
            (start, stop, _by_label(model, logits, labels))
            for start, stop, logits in _hops(outputs, hop_seconds)
        ]
    elif len(outputs) == 1:
        spans = [(outputs[0].window.start, outputs[0].window.stop, scores)]
    else:
        spans = [
            (
                output.window.start,
                output.window.stop,
                _by_label(model, model.classifier.logits(mean), labels),
            )
            for output, mean in zip(outputs, embeddings, strict=True)
        ]
    return Prediction(
        label=label,
        score=scores[label],
        scores=scores,
        embedding=embedding,
        frames=np.concatenate(kept) if len(kept) == len(outputs) else None,
        timeline=tuple(
            Span(
                start_seconds + start / FRAMES_PER_SECOND,
                start_seconds + stop / FRAMES_PER_SECOND,
                its_scores,
            )
            for start, stop, its_scores in spans
        ),
    )


def _hops(
    outputs: Sequence[SegmentOutput], hop_seconds: float
) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """First frame, the one after the last, and mean logits of each hop, also across windows.

    The output layer is linear: the mean of the frames' logits is what it makes of their mean.
    """
    logits = np.concatenate([output.logits for output in outputs if output.logits is not None])
    start = hop = 0
    while start < len(logits):
        hop += 1
        stop = min(len(logits), round(FRAMES_PER_SECOND * hop * hop_seconds))
        yield start, stop, logits[start:stop].mean(axis=0)
        start = stop


def _by_label(model: Model, logits: NDArray[np.float64], labels: Sequence[int]) -> dict[str, float]:
    names = model.config.labels
    scores = model.classifier.scores_of(logits, labels).tolist()
    return dict(zip([names[number] for number in labels] or names, scores, strict=True))
