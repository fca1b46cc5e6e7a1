"""From what the network gives for each window of a clip to the result for the clip."""

import math
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
class Timeline:
    """The scores along a clip: as arrays, since two hours of it may have 72,000 items.

    `frames` is int64 (items, 2), the first frame of each and the one after its last; `scores` are
    float32 (items, labels). Its seconds begin at `start_seconds`.
    """

    frames: NDArray[np.int64]
    scores: NDArray[np.float32]
    labels: tuple[str, ...]
    start_seconds: float = 0.0

    def __iter__(self) -> Iterator[Span]:
        """Its items, in order."""
        for (start, stop), scores in zip(self.frames, self.scores, strict=True):
            yield Span(
                self.start_seconds + float(start) / FRAMES_PER_SECOND,
                self.start_seconds + float(stop) / FRAMES_PER_SECOND,
                dict(zip(self.labels, scores.tolist(), strict=True)),
            )


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
    timeline: Timeline


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
    names = tuple(model.config.labels[number] for number in labels) or tuple(model.config.labels)
    alone = outputs[0].scores if len(outputs) == 1 and not labels else None
    if alone is None:
        alone = model.classifier.scores_of(model.classifier.logits(embedding), labels).tolist()
    by_label = dict(zip(names, alone, strict=True))
    label = max(by_label, key=by_label.__getitem__)
    kept = [output.frames for output in outputs if output.frames is not None]
    if hop_seconds is not None:
        frames, logits = _hops(outputs, hop_seconds)
        scores = model.classifier.scores_of(logits, labels)
    else:
        frames = np.array([(output.window.start, output.window.stop) for output in outputs])
        if len(outputs) == 1:
            scores = np.array([alone], np.float32)
        else:
            logits = model.classifier.logits(np.stack(embeddings))  # (windows, labels)
            scores = model.classifier.scores_of(logits, labels)
    return Prediction(
        label=label,
        score=by_label[label],
        scores=by_label,
        embedding=embedding,
        frames=np.concatenate(kept) if len(kept) == len(outputs) else None,
        timeline=Timeline(frames, scores, names, start_seconds),
    )


def _hops(
    outputs: Sequence[SegmentOutput], hop_seconds: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frames (hops, 2) and mean logits (hops, labels) of each hop, also across windows.

    The output layer is linear: the mean of the frames' logits is what it makes of their mean.
    """
    logits = np.concatenate([output.logits for output in outputs if output.logits is not None])
    count = math.ceil(len(logits) / FRAMES_PER_SECOND / hop_seconds) + 1
    edges = np.rint(FRAMES_PER_SECOND * np.arange(count + 1) * hop_seconds).astype(np.int64)
    edges = np.unique(np.minimum(edges, len(logits)))  # (hops + 1,)
    frames = np.stack([edges[:-1], edges[1:]], axis=1)
    sums = np.add.reduceat(logits, edges[:-1], axis=0)
    return frames, sums / np.diff(edges)[:, None]
