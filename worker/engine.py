"""The engine: packs segments of clips on tapes, runs them, and pools what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import psutil
import structlog
import torch
from numpy.typing import NDArray

from storage.errors import Internal, JobError, OutOfMemory
from worker.clip import (
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    Clip,
    Samples,
    Waveform,
    Window,
    frame_samples,
    num_frames,
)
from worker.errors import DeviceLost
from worker.model.model import Model
from worker.tape import Segment, TapeLayout, num_fitting

log = structlog.get_logger(__name__)

# More slots than this bring no more speed, only latency: about 40 s of audio on a CPU, 5 min on a
# GPU. Small enough, on both, that memory seldom decides.
MAX_TAPE_SLOTS_CPU = 2_048
MAX_TAPE_SLOTS_GPU = 16_384
# Of the memory that is free once the weights are in place.
TAPE_SHARE_OF_FREE_MEMORY = 0.5
# Vectors of `embed_dim` that are alive at once for one slot, in the widest part of a block: the
# input, q, k and v; or the input and two hidden layers of 4 × embed_dim. Half as much to spare.
VECTORS_PER_SLOT = 16

# The CPU's allocator and cuBLAS have no class for it, only these words in a RuntimeError.
OUT_OF_MEMORY_WORDS = (
    "can't allocate memory",
    "out of memory",
    "ALLOCATION_FAILED",
    "ALLOC_FAILED",
    "bad_alloc",
)

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SegmentOutput:
    """What the network gives for one segment, or why it gives nothing.

    `embedding` is the mean over the frames, float32 (dim,); `frames` is float32 (frames, dim),
    where they were asked for.
    """

    window: Window
    embedding: Vector | None = None
    frames: NDArray[np.float32] | None = None
    error: JobError | None = None


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


class Engine:
    """Runs segments in exact batches: each gives what it gives alone, whatever it runs with.

    `tape_slots` bounds a batch, and shrinks when the device runs out of memory. Not thread-safe;
    owned by the infer thread.
    """

    def __init__(
        self, model: Model, *, tape_slots: int | None = None, window_seconds: float = 30.0
    ) -> None:
        self.model = model
        frames = num_frames(int(window_seconds * SAMPLE_RATE_HZ))
        if frames < 1:
            raise ValueError(
                f"EMO_WINDOW_SECONDS={window_seconds}: must be at least "
                f"{FRAME_SAMPLES / SAMPLE_RATE_HZ}"
            )
        self._longest = Window(0, frames)
        least = self.slots(self._longest)
        if tape_slots is not None and tape_slots < least:
            raise ValueError(
                f"EMO_TAPE_SLOTS={tape_slots}: a window of {window_seconds} s takes {least}; "
                "give at least that, or lower EMO_WINDOW_SECONDS"
            )
        self.tape_slots = tape_slots or max(least, _affordable_slots(model, least))
        self._buffer: Samples = np.empty(0, dtype=np.float32)
        if model.device.type == "cuda":
            # In float32, cuDNN would round the convolutions' inputs to 10 bits.
            torch.backends.cudnn.allow_tf32 = False

    def slots(self, window: Window) -> int:
        """The slots of a tape that a window takes, its gap counted in."""
        return self.model.config.gap + window.frames

    def run(self, segments: Sequence[Segment]) -> list[SegmentOutput]:
        """Run any number of segments: one output for each, in the same order.

        A segment whose result is not finite, or that does not fit the device even alone, has an
        error in its output; the others are not affected.
        """
        outputs: list[SegmentOutput] = []
        while len(outputs) < len(segments):
            rest = segments[len(outputs) :]
            count = num_fitting(rest, gap=self.model.config.gap, tape_slots=self.tape_slots)
            outputs += self._run_or_halve(rest[:count])
        return outputs

    def pool(self, outputs: Sequence[SegmentOutput]) -> Prediction:
        """One clip's prediction from the outputs of all its windows, weighted by their frames.

        Raises the JobError of a window that has one.
        """
        for output in outputs:
            if output.error is not None:
                raise output.error
        embeddings = [output.embedding for output in outputs if output.embedding is not None]
        weights = [output.window.frames for output in outputs]
        embedding = np.average(np.stack(embeddings), axis=0, weights=weights).astype(np.float32)
        scores = self._by_label(embedding)
        label = max(scores, key=scores.__getitem__)
        kept = [output.frames for output in outputs if output.frames is not None]
        return Prediction(
            label=label,
            score=scores[label],
            scores=scores,
            embedding=embedding,
            frames=np.concatenate(kept) if len(kept) == len(outputs) else None,
            timeline=tuple(
                Span(o.window.start_seconds, o.window.stop_seconds, self._by_label(e))
                for o, e in zip(outputs, embeddings, strict=True)
            ),
        )

    def scores(self, embedding: Vector) -> Vector:
        """Probabilities float32 (labels,), in label order, of a pooled embedding (dim,)."""
        return self.model.classifier.scores(embedding)

    def warm_up(self) -> None:
        """Run the shortest clip and a full tape of long ones. Raises the JobError of what fails."""
        count, rest = divmod(self.tape_slots, self.slots(self._longest))
        full = [self._longest] * count
        if rest > self.model.config.gap:
            full.append(Window(0, rest - self.model.config.gap))
        for windows in ([Window(0, 1)], full):
            for output in self.run([_silence(window) for window in windows]):
                if output.error is not None:
                    raise output.error

    def _by_label(self, embedding: Vector) -> dict[str, float]:
        scores = self.scores(embedding).tolist()
        return dict(zip(self.model.config.labels, scores, strict=True))

    def _run_or_halve(self, segments: Sequence[Segment]) -> list[SegmentOutput]:
        """Run one tape; if that fails, each half of it by itself, so that only its cause fails.

        Raises DeviceLost.
        """
        try:
            return self._run_tape(segments)
        except Exception as error:
            out_of_memory = _is_out_of_memory(error)
            if not out_of_memory:
                log.exception("engine.tape_failed", segments=len(segments))
                self._require_device()
            fault = f"{type(error).__name__}: {error}"
        # Past the handler: a traceback would keep the tensors of the failed tape alive.
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        window = segments[0].window
        slots = sum(self.slots(segment.window) for segment in segments)
        if len(segments) == 1 and not out_of_memory:
            return [SegmentOutput(window, error=Internal(f"the network failed: {fault}"))]
        if len(segments) == 1:
            log.error("engine.clip_too_large", slots=slots, device=str(self.model.device))
            too_large = OutOfMemory(
                f"{window.frames} frames alone do not fit {self.model.device}: lower "
                "EMO_WINDOW_SECONDS, or give it more memory"
            )
            return [SegmentOutput(window, error=too_large)]
        halved = max(slots // 2, self.slots(self._longest))
        if out_of_memory and halved < self.tape_slots:
            log.warning("engine.tape_halved", tape_slots=halved, before=self.tape_slots)
            self.tape_slots = halved
        middle = len(segments) // 2
        return self._run_or_halve(segments[:middle]) + self._run_or_halve(segments[middle:])

    @torch.inference_mode()
    def _run_tape(self, segments: Sequence[Segment]) -> list[SegmentOutput]:
        """Run segments on one tape."""
        config = self.model.config
        layout = TapeLayout(
            gap=config.gap,
            extra_tokens=config.num_extra_tokens,
            frames=tuple(segment.window.frames for segment in segments),
        )
        tape = self._tape_buffer(layout.num_samples)
        layout.write(segments, tape)
        # Blocking: the buffer is written again for the next tape.
        samples = torch.from_numpy(tape).to(self.model.device)  # (num_samples,)
        slots = self.model.network(samples, layout)  # (slots, dim)
        frames = [slots[run].float() for run in layout.frame_slots()]  # (frames, dim) each
        embeddings = torch.stack([run.mean(dim=0) for run in frames]).cpu().numpy()
        return [
            _output(segment, embedding, run)
            for segment, embedding, run in zip(segments, embeddings, frames, strict=True)
        ]

    def _require_device(self) -> None:
        """Raise DeviceLost where a CUDA error has made the device unusable to this process."""
        if self.model.device.type != "cuda":
            return
        try:
            torch.cuda.synchronize(self.model.device)
        except RuntimeError as error:
            raise DeviceLost(f"{self.model.device}: {error}") from error

    def _tape_buffer(self, num_samples: int) -> Samples:
        """Float32 (num_samples,), the same memory for every tape; pinned for a GPU."""
        if len(self._buffer) < num_samples:
            pinned = self.model.device.type == "cuda"
            self._buffer = torch.empty(num_samples, pin_memory=pinned).numpy()
        return self._buffer[:num_samples]


def _output(segment: Segment, embedding: Vector, frames: torch.Tensor) -> SegmentOutput:
    """A segment's output; a row that is not finite anywhere leaves a mean that is not."""
    if not np.isfinite(embedding).all():
        error = Internal("the network's output for this clip is not finite; its label is unknown")
        return SegmentOutput(segment.window, error=error)
    # Copied: a view would keep the whole tape's output alive.
    kept = frames.cpu().numpy().copy() if segment.keep_frames else None
    return SegmentOutput(segment.window, embedding=embedding, frames=kept)


def _affordable_slots(model: Model, longest_slots: int) -> int:
    """The tape that the device's free memory allows, up to what is of use."""
    if model.device.type == "cuda":
        free_bytes, most = torch.cuda.mem_get_info(model.device)[0], MAX_TAPE_SLOTS_GPU
    else:
        free_bytes, most = psutil.virtual_memory().available, MAX_TAPE_SLOTS_CPU
    # The attention bias of the longest window: in float32, and a copy in the model's dtype.
    bias_bytes = model.config.num_heads * longest_slots**2 * (4 + model.dtype.itemsize)
    free_bytes = max(0, free_bytes - bias_bytes)
    slot_bytes = VECTORS_PER_SLOT * model.config.embed_dim * model.dtype.itemsize
    return min(most, int(TAPE_SHARE_OF_FREE_MEMORY * free_bytes / slot_bytes))


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch or numpy ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY_WORDS)


def _silence(window: Window) -> Segment:
    samples = np.zeros(frame_samples(window.frames), dtype=np.float32)
    clip = Clip(Waveform(samples), mean=0.0, scale=1.0, windows=(window,))
    return Segment(clip, window)
