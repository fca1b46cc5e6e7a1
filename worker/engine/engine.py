"""The engine: packs segments of clips on tapes, and runs them whatever the device says."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from storage.errors import Internal, OutOfMemory
from worker.clip import (
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    Clip,
    Pcm,
    Window,
    frame_samples,
    num_frames,
)
from worker.engine.eager import EagerTapes, RunningTape, SegmentOutput, Tapes, Vector
from worker.engine.faults import Fault, Faults
from worker.engine.memory import affordable_slots
from worker.engine.parts import ComputeThreads, SplitTapes, measure_costs
from worker.engine.prediction import Prediction, pool
from worker.model.device import gpu_uuid
from worker.model.model import Model
from worker.model.tuning import tune
from worker.tape import Segment, num_fitting

if TYPE_CHECKING:
    from worker.model.tape_operations import GpuNetwork

log = structlog.get_logger(__name__)

# How long a tape is, or nearly, when ways to compute are compared.
TUNED_SLOTS, MOST_TUNED_SLOTS_GPU = 1_024, 8_192
# Of cuDNN's, that each thread keeps for shapes that come again: torch's own limit is 10,000, 2 GB.
# Far more than a ladder is captured with, lest what its graphs call should go with a plan.
CUDNN_PLANS, CUDNN_PLANS_VARIABLE = 512, "TORCH_CUDNN_V8_API_LRU_CACHE_LIMIT"


@dataclass(frozen=True, slots=True)
class Started:
    """A tape that was started, or could not be; `Engine.finish` knows what to do."""

    segments: Sequence[Segment]
    tape: RunningTape | Fault

    def ready(self) -> bool:
        """Whether `finish` would return at once."""
        return isinstance(self.tape, Fault) or self.tape.ready()


class Engine:
    """Runs segments in exact batches: each gives what it gives alone, whatever it runs with.

    `tape_slots` bounds a batch, and shrinks when the device runs out of memory. On a CUDA device
    tapes run as captured graphs once `warm_up` has made them, unless `graphs` is false. Not
    thread-safe; owned by the infer thread.
    """

    def __init__(
        self,
        model: Model,
        *,
        tape_slots: int | None = None,
        window_seconds: float = 30.0,
        graphs: bool = True,
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
        self.tape_slots = tape_slots or max(least, affordable_slots(model, least))
        self._cuda = model.device.type == "cuda"
        self._faults = Faults(model.device)
        self._graphs = graphs and self._cuda
        self._tapes: Tapes = EagerTapes(model)
        self.slots_used = 0
        self.slots_run = 0
        self.device_seconds = 0.0  # that it worked on tapes which are finished
        if self._cuda:
            # Read at the first convolution of all.
            os.environ.setdefault(CUDNN_PLANS_VARIABLE, str(CUDNN_PLANS))
            # In float32, cuDNN would round the convolutions' inputs to 10 bits; and cuBLAS
            # those of products, where TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is set.
            torch.backends.cudnn.allow_tf32 = False
            torch.set_float32_matmul_precision("highest")
            # In half precision, cuBLAS would add up parts of a long sum in 16 bits.
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False

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
            outputs += self.finish(self.start(rest[: self.num_next(rest)]))
        return outputs

    def num_next(self, segments: Sequence[Segment]) -> int:
        """How many of the first segments make the next tape; at least one."""
        count = num_fitting(segments, gap=self.model.config.gap, tape_slots=self.tape_slots)
        return self.even(segments[:count]) if count < len(segments) else count

    def even(self, segments: Sequence[Segment]) -> int:
        """How many of the first segments are best run as one tape, which all of them fit.

        That is for when more wait behind them: on a CPU, threads may have less to wait for.
        """
        return self._tapes.even([self.slots(segment.window) for segment in segments])

    def start(self, segments: Sequence[Segment]) -> Started:
        """Start one tape of segments that fit `tape_slots`; at most one other may be running.

        On a CPU it is done on return; on a CUDA device it has only been sent.
        """
        used_slots = sum(self.slots(segment.window) for segment in segments)
        tape = self._faults.attempt(lambda: self._tapes.start(segments))
        if not isinstance(tape, Fault):
            self.slots_used += used_slots
            self.slots_run += self._tapes.slots_run(used_slots)
        return Started(segments, tape)

    def finish(self, started: Started) -> list[SegmentOutput]:
        """Wait for a tape: one output for each of its segments, in order."""
        tape = started.tape
        if not isinstance(tape, Fault):
            outputs = self._faults.attempt(tape.outputs)
            if not isinstance(outputs, Fault):
                self.device_seconds += tape.device_seconds
                return outputs
            tape = outputs
        return self._halve(started.segments, tape)

    def pool(self, outputs: Sequence[SegmentOutput]) -> Prediction:
        """One clip's prediction from the outputs of all its windows; see `prediction.pool`.

        Raises the JobError of a window that has one.
        """
        return pool(self.model, outputs)

    def scores(self, embedding: Vector) -> Vector:
        """Probabilities float32 (labels,), in label order, of a pooled embedding (dim,)."""
        classifier = self.model.classifier
        return classifier.scores_of(classifier.logits(embedding))

    @property
    def gpu_uuid(self) -> str | None:
        """The GPU that it runs on, as NVIDIA's driver names it; None on a CPU."""
        if not self._cuda:
            return None
        return gpu_uuid(self.model.device)

    def warm_up(self) -> float:
        """Choose, compile and capture; then run the shortest clip and a full tape of long ones.

        Returns the seconds that the full tape took. Raises the JobError of what fails.
        """
        if self._graphs:
            self._capture()
        elif not self._cuda:
            self._tune()
            self._split()
        whole, rest = divmod(self.tape_slots, self.slots(self._longest))
        full = [self._longest] * whole
        if rest > self.model.config.gap:
            full.append(Window(0, rest - self.model.config.gap))
        started = 0.0
        for windows, kind in (([Window(0, 1)], np.float32), (full, np.int16)):
            started = time.monotonic()
            for output in self.run([_silence(window, kind) for window in windows]):
                if output.error is not None:
                    raise output.error
        return time.monotonic() - started

    def _tune(self) -> None:
        """Let the fastest ways be found; without them it goes on as well."""
        fault = self._faults.attempt(lambda: tune(self.model, rows=TUNED_SLOTS), doing="tuning")
        if fault is not None:
            log.warning("engine.not_tuned", error=fault.text, meaning="tapes may run slower")

    def _split(self) -> None:
        """On a CPU with several threads, run tapes in parts from now on, if it can be measured."""
        count = torch.get_num_threads()
        if count == 1:
            return

        def split() -> SplitTapes:
            threads = ComputeThreads(count)
            return SplitTapes(self.model, threads, measure_costs(self.model, threads, count))

        made = self._faults.attempt(split, doing="tuning")
        if isinstance(made, Fault):
            log.warning("engine.not_tuned", error=made.text, meaning="tapes may run slower")
        else:
            self._tapes = made

    def _capture(self) -> None:
        """Run tapes as CUDA graphs from now on; operation by operation where that fails, loudly."""
        gpu = self._faults.attempt(self._prepared_gpu, doing="capture")
        ladder = gpu if isinstance(gpu, Fault) else self._longest_ladder(gpu)
        if isinstance(ladder, Fault):
            log.error("engine.no_graphs", error=ladder.text, meaning="tapes run far slower")
        else:
            self._tapes = ladder

    def _prepared_gpu(self) -> "GpuNetwork":
        # Imported here: Triton comes with torch's builds for CUDA alone.
        from worker.engine.graphs import prepared  # noqa: PLC0415

        return prepared(self.model)

    def _longest_ladder(self, gpu: "GpuNetwork") -> Tapes | Fault:
        """A tuned ladder of the longest tapes that fit, or why there is none."""
        from worker.engine.graphs import GraphLadder  # noqa: PLC0415
        from worker.model.gpu_tuning import tune_gpu  # noqa: PLC0415

        rows = min(self.tape_slots, MOST_TUNED_SLOTS_GPU)
        tuned = self._faults.attempt(lambda: tune_gpu(self.model, gpu, rows=rows), doing="tuning")
        if tuned is not None:
            log.warning("engine.not_tuned", error=tuned.text, meaning="tapes may run slower")
        while True:
            self._faults.release_memory()
            ladder = self._faults.attempt(
                lambda: GraphLadder(self.model, gpu, self.tape_slots), doing="capture"
            )
            # After another fault its memory is not asked back: of a capture that broke off, the
            # allocator might not know that it has ended.
            if not isinstance(ladder, Fault) or not ladder.out_of_memory:
                return ladder
            if not self._lower(self.tape_slots // 2):
                return ladder
            gpu.spare_memory()  # or what the front end takes at a time would stay as it is

    def _halve(self, segments: Sequence[Segment], fault: Fault) -> list[SegmentOutput]:
        """After a tape failed: each half of it by itself, so that only its cause fails."""
        self._faults.release_memory()
        window = segments[0].window
        slots = sum(self.slots(segment.window) for segment in segments)
        if len(segments) == 1 and not fault.out_of_memory:
            return [SegmentOutput(window, error=Internal(f"the network failed: {fault.text}"))]
        if len(segments) == 1:
            log.error("engine.clip_too_large", slots=slots, device=str(self.model.device))
            too_large = OutOfMemory(
                f"{window.frames} frames alone do not fit {self.model.device}: lower "
                "EMO_WINDOW_SECONDS, or give it more memory"
            )
            return [SegmentOutput(window, error=too_large)]
        if fault.out_of_memory:
            self._lower(slots // 2)
        middle = len(segments) // 2
        return [
            output
            for half in (segments[:middle], segments[middle:])
            for output in self.finish(self.start(half))
        ]

    def _lower(self, tape_slots: int) -> bool:
        """Take shorter tapes from now on; False where they are as short as a window allows."""
        lowered = max(tape_slots, self.slots(self._longest))
        if lowered >= self.tape_slots:
            return False
        log.warning("engine.tape_halved", tape_slots=lowered, before=self.tape_slots)
        self.tape_slots = lowered
        return True


def _silence(window: Window, kind: type[np.int16 | np.float32]) -> Segment:
    samples: Pcm = np.zeros(frame_samples(window.frames), kind)
    clip = Clip(samples, mean=0.0, scale=1.0, windows=(window,))
    return Segment(clip, window)
