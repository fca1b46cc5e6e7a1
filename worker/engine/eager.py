"""Running a tape: from segments to what the network gives for each of them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from storage.errors import Internal, JobError
from worker.clip import Window
from worker.engine.packing import normalized, pack, row_scales, tape_memory
from worker.model.config import ModelConfig
from worker.model.model import Classifier, Model
from worker.tape import Segment, TapeLayout

Vector = NDArray[np.float32]
_NOT_FINITE = "the network's output for this clip is not finite; its label is unknown"


@dataclass(frozen=True, slots=True)
class SegmentOutput:
    """What the network gives for one segment, or why it gives nothing.

    `embedding` is the mean over the frames, float32 (dim,); where they were asked for, `frames` is
    float32 (frames, dim), and `logits` float64 (frames, labels) what they are to the output layer.
    `scores` are the probabilities of all labels, of the segment alone.
    """

    window: Window
    embedding: Vector | None = None
    frames: NDArray[np.float32] | None = None
    logits: NDArray[np.float64] | None = None
    error: JobError | None = None
    scores: Sequence[float] | None = None


class RunningTape(Protocol):
    """A tape that has been started."""

    def ready(self) -> bool:
        """Whether `outputs` would return at once."""

    def outputs(self) -> list[SegmentOutput]:
        """Wait for it: one output for each segment, in order. Raises what the device raises."""

    @property
    def device_seconds(self) -> float:
        """How long the device worked on it; to be asked after `outputs`."""


class Tapes(Protocol):
    """Runs one tape after another on a device. Not thread-safe; owned by the infer thread."""

    def start(self, segments: Sequence[Segment]) -> RunningTape:
        """Start a tape; at most one other may be running. Raises what the device raises."""

    def slots_run(self, used_slots: int) -> int:
        """The slots that the device runs for a tape of which so many are used."""

    def even(self, slots: Sequence[int]) -> int:
        """How many of the first segments, of so many slots each, are best run as one tape.

        They fit one, and more wait behind them.
        """


@dataclass(frozen=True, slots=True)
class FinishedTape:
    """A tape that was run when it was started."""

    found: list[SegmentOutput]
    device_seconds: float

    def ready(self) -> bool:
        """It is."""
        return True

    def outputs(self) -> list[SegmentOutput]:
        """One output for each segment, in order."""
        return self.found


class EagerTapes:
    """Operation by operation, a tape as long as its segments. On a CPU, `start` runs it all.

    Not thread-safe: used by one thread at a time. Several may share a model.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._memory = torch.empty(0)

    def slots_run(self, used_slots: int) -> int:
        """No more than are used."""
        return used_slots

    def even(self, slots: Sequence[int]) -> int:
        """All of them."""
        return len(slots)

    @torch.inference_mode()
    def start(self, segments: Sequence[Segment]) -> FinishedTape:
        """Run a tape."""
        started = time.perf_counter()
        layout = layout_of(segments, self._model.config)
        device = self._model.device
        # Blocking: the memory is written again for the next tape.
        raw = pack(segments, layout, self._tape_memory(layout.slots)).to(device)
        scales = torch.from_numpy(row_scales(segments, layout)).to(device)
        samples = normalized(raw, scales)[: layout.num_samples]
        slots = self._model.network(samples, layout)  # (slots, dim)
        frames = [slots[run].float() for run in layout.frame_slots()]  # (frames, dim) each
        embeddings = torch.stack([run.mean(dim=0) for run in frames]).cpu().numpy()
        # Copied: a view would keep the whole tape's output alive.
        kept = [
            run.cpu().numpy().copy() if segment.keeps else None
            for segment, run in zip(segments, frames, strict=True)
        ]
        outputs = outputs_of(segments, embeddings, kept, self._model.classifier)
        return FinishedTape(outputs, time.perf_counter() - started)

    def _tape_memory(self, slots: int) -> Tensor:
        """The same memory for every tape; pinned for a GPU."""
        if len(self._memory) < tape_memory(slots):
            pinned = self._model.device.type == "cuda"
            self._memory = torch.empty(tape_memory(slots), pin_memory=pinned)
        return self._memory


def layout_of(segments: Sequence[Segment], config: ModelConfig, *, slots: int = 0) -> TapeLayout:
    """The segments in their order, on a tape of at least `slots` slots."""
    frames = tuple(segment.window.frames for segment in segments)
    used = sum(frames) + config.gap * len(frames)
    return TapeLayout(
        gap=config.gap,
        extra_tokens=config.num_extra_tokens,
        frames=frames,
        tail=max(0, slots - used),
    )


def outputs_of(
    segments: Sequence[Segment],
    embeddings: Vector,
    frames: Sequence[NDArray[np.float32] | None],
    classifier: Classifier,
) -> list[SegmentOutput]:
    """Outputs from embeddings (segments, dim) and each segment's frames (frames, dim).

    A row that is not finite anywhere leaves a mean that is not, and that an error.
    """
    finite = np.logical_and.reduce(np.isfinite(embeddings), axis=1)
    with np.errstate(invalid="ignore"):  # of those that are not finite nothing is told
        scores = classifier.scores_of(classifier.logits(embeddings)).tolist()
    return [
        SegmentOutput(segment.window, embedding, run, scores=own)
        if is_finite
        else SegmentOutput(segment.window, error=Internal(_NOT_FINITE))
        for segment, embedding, run, own, is_finite in zip(
            segments, embeddings, frames, scores, finite.tolist(), strict=True
        )
    ]
