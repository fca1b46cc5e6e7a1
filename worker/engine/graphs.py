"""The network as CUDA graphs: a ladder of tape lengths, each captured once, before the first job.

A graph is replayed without a single call from Python into its thousand kernels. It reads and writes
the same memory each time, so what changes from tape to tape is copied there: the samples, and what
each slot is. Copies in, computing and copies out run on three streams, so that the next tape
arrives, and the last one's results leave, while a tape is being computed.
"""

import gc
import time
from collections.abc import Sequence
from typing import Any

import structlog
import torch
from torch import Tensor

from worker.engine.eager import SegmentOutput, layout_of, outputs_of
from worker.engine.ladder import rungs
from worker.engine.packing import normalized, num_rows, pack, row_scales, tape_memory
from worker.engine.tables import Tables
from worker.model.device import LEAST_CAPABILITY
from worker.model.model import Model
from worker.model.tape_operations import GpuNetwork, TapeOperations
from worker.tape import Segment, TapeLayout, num_samples

log = structlog.get_logger(__name__)

# Tapes that have been started and not yet collected: one computes, one waits behind it.
TAPES_IN_FLIGHT = 2


class Rung:
    """The network on tapes of one length, between memory that never moves."""

    def __init__(self, model: Model, gpu: GpuNetwork, slots: int) -> None:
        config, device = model.config, model.device
        self.slots = slots
        self.tables = Tables(model, slots)
        self._network = model.network
        self.rows = torch.zeros(tape_memory(slots), device=device)
        self.samples = self.rows[: num_samples(slots)]
        # One tensor, so that one copy brings all.
        nobody = self.tables.of(layout_of([], config, slots=slots))
        self.about = torch.from_numpy(nobody).to(device)
        self._roles, edges, blocks = self.tables.parts(self.about)
        self._operations = TapeOperations(gpu, roles=self._roles, edges=edges, blocks=blocks)

    def step(self) -> tuple[Tensor, Tensor]:
        """Frames (slots, dim), and embeddings float32 (segments, dim), of what is in place now."""
        operations = self._operations
        frames = self._network.run(self.samples, self._roles, operations, operations)
        return frames, operations.means(frames)


class Staging:
    """One tape's way in and out: pinned memory, and its counterpart on the device."""

    def __init__(self, model: Model, slots: int) -> None:
        config, device, tables = model.config, model.device, Tables(model, slots)
        # As they are packed, int16 or float32; and what each row of them is normalized by.
        self.raw_in = _pinned(tape_memory(slots))
        self.raw = torch.empty_like(self.raw_in, device=device)
        self.scales_in = _pinned(3 * num_rows(slots))
        self.scales = torch.empty_like(self.scales_in, device=device)
        self.about_in = _pinned(tables.size, dtype=torch.int32)
        self.about = torch.empty_like(self.about_in, device=device)
        self.embeddings = torch.empty(tables.segments, config.embed_dim, device=device)
        self.embeddings_out = _pinned(tables.segments, config.embed_dim)
        self.arrived = _event()
        self.began, self.computed = _event(timing=True), _event(timing=True)
        self.left = _event(blocking=True)  # waiting for it leaves the core to other threads


class GraphTape:
    """A tape on its way through the device."""

    def __init__(
        self,
        segments: Sequence[Segment],
        staging: Staging,
        frames: Sequence[Tensor | None],
        ladder: "GraphLadder",
    ) -> None:
        self._segments = segments
        self._staging = staging
        self._frames = frames
        self._ladder = ladder
        self.device_seconds = 0.0

    def ready(self) -> bool:
        """Whether its results have left the device."""
        try:
            return bool(self._staging.left.query())  # type: ignore[no-untyped-call]  # as below
        except RuntimeError:
            return True  # `outputs` says what happened

    def outputs(self) -> list[SegmentOutput]:
        """Wait for it: one output for each segment, in order."""
        try:
            self._staging.left.synchronize()
            embeddings = self._staging.embeddings_out[: len(self._segments)].numpy().copy()
            frames = [None if run is None else run.numpy() for run in self._frames]
            self.device_seconds = self._staging.began.elapsed_time(self._staging.computed) / 1000
            return outputs_of(self._segments, embeddings, frames, self._ladder.classifier)
        finally:
            self._ladder.give_back(self._staging)


def prepared(model: Model) -> GpuNetwork:
    """What all ladders of a model share; on the thread that will run them.

    Raises RuntimeError for a GPU that the kernels are not made for.
    """
    capability = torch.cuda.get_device_capability(model.device)
    if capability < LEAST_CAPABILITY:
        raise RuntimeError(
            f"{model.device} has compute capability {capability[0]}.{capability[1]}; the kernels "
            "need 8.0, an Ampere GPU"
        )
    torch.cuda.set_device(model.device)
    # What is left to the CPU is a copy of each tape. By all cores it is made no sooner, and takes
    # each of them as long.
    torch.set_num_threads(1)
    return GpuNetwork(model)


class GraphLadder:
    """Tapes of fixed lengths, each a captured CUDA graph. Not thread-safe; owned by one thread."""

    def __init__(self, model: Model, gpu: GpuNetwork, tape_slots: int) -> None:
        """Compile and capture, the longest first: the others fit into its memory.

        Raises torch.OutOfMemoryError where the longest does not fit.
        """
        started = time.monotonic()
        gc.collect()  # what goes while a graph is being captured could break the capture
        self.classifier = model.classifier
        self._config = model.config
        self._copy_in, self._compute, self._copy_out = (_stream(model.device) for _ in range(3))
        self._free = [Staging(model, tape_slots) for _ in range(TAPES_IN_FLIGHT)]
        self._rungs: dict[int, _Captured] = {}
        pool = torch.cuda.graph_pool_handle()
        for slots in reversed(rungs(tape_slots)):
            self._rungs[slots] = _Captured(Rung(model, gpu, slots), self._compute, pool)
        log.info(
            "engine.captured",
            rungs=sorted(self._rungs),
            seconds=round(time.monotonic() - started, 1),
        )

    def slots_run(self, used_slots: int) -> int:
        """The shortest rung that holds them. Raises ValueError where none does."""
        fitting = [slots for slots in self._rungs if slots >= used_slots]
        if not fitting:
            raise ValueError(f"{used_slots} slots on a ladder of up to {max(self._rungs)}")
        return min(fitting)

    def even(self, slots: Sequence[int]) -> int:
        """All of them: the device shares them out in far smaller parts."""
        return len(slots)

    @torch.inference_mode()
    def start(self, segments: Sequence[Segment]) -> GraphTape:
        """Send a tape on its way; returns at once."""
        used_slots = layout_of(segments, self._config).used_slots
        captured = self._rungs[self.slots_run(used_slots)]
        rung = captured.rung
        layout = layout_of(segments, self._config, slots=rung.slots)
        if not self._free:
            raise RuntimeError(f"{TAPES_IN_FLIGHT} tapes are on their way already")
        staging = self._free.pop()
        try:
            return self._send(segments, layout, staging, captured)
        except BaseException:
            self.give_back(staging)
            raise

    def give_back(self, staging: Staging) -> None:
        """Its tape is over."""
        self._free.append(staging)

    def _send(
        self, segments: Sequence[Segment], layout: TapeLayout, staging: Staging, to: "_Captured"
    ) -> GraphTape:
        rung = to.rung
        about, scales = len(rung.about), 3 * num_rows(layout.slots)
        raw = pack(segments, layout, staging.raw_in)
        arriving = staging.raw.view(raw.dtype)[: raw.numel()]
        staging.about_in[:about].numpy()[:] = rung.tables.of(layout)
        staging.scales_in[:scales].numpy()[:] = row_scales(segments, layout).ravel()
        with torch.cuda.stream(self._copy_in):
            arriving.copy_(raw.view(-1), non_blocking=True)
            staging.scales[:scales].copy_(staging.scales_in[:scales], non_blocking=True)
            staging.about[:about].copy_(staging.about_in[:about], non_blocking=True)
            staging.arrived.record()
        with torch.cuda.stream(self._compute):
            self._compute.wait_event(staging.arrived)
            staging.began.record()
            normalized(arriving.view(raw.shape), staging.scales[:scales].view(3, -1), rung.rows)
            rung.about.copy_(staging.about[:about])
            to.graph.replay()
            # Out of the graph's own memory, which the next tape overwrites.
            count = len(segments)
            staging.embeddings[:count].copy_(to.embeddings[:count])
            kept = [
                _copied(to.frames[run]) if segment.keeps else None
                for segment, run in zip(segments, layout.frame_slots(), strict=True)
            ]
            staging.computed.record()
        with torch.cuda.stream(self._copy_out):
            self._copy_out.wait_event(staging.computed)
            staging.embeddings_out[:count].copy_(staging.embeddings[:count], non_blocking=True)
            frames = [None if run is None else self._leaving(run) for run in kept]
            staging.left.record()
        return GraphTape(segments, staging, frames, self)

    def _leaving(self, frames: Tensor) -> Tensor:
        """A copy in pinned memory, there when `left` is; called on the stream of copies out."""
        out = _pinned(*frames.shape)
        out.copy_(frames, non_blocking=True)
        frames.record_stream(self._copy_out)  # or the next tape could take its memory meanwhile
        return out


class _Captured:
    """A rung and its graph."""

    def __init__(self, rung: Rung, stream: torch.cuda.Stream, pool: Any) -> None:
        self.rung = rung
        self.graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                rung.step()  # compiles, and lets libraries allocate what they need
            stream.synchronize()
            # Other threads may use CUDA meanwhile (GPU metrics): only this one's calls are caught.
            # The stream is made current here as well: where a capture breaks off, `graph` would
            # leave its own current.
            with (
                torch.cuda.stream(stream),
                torch.cuda.graph(
                    self.graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                ),
            ):
                self.frames, self.embeddings = rung.step()
            with torch.cuda.stream(stream):
                self.graph.replay()  # the first one uploads it: no job should wait for that


def _copied(frames: Tensor) -> Tensor:
    """Frames (frames, dim) in float32, in memory of their own."""
    return frames.to(torch.float32, copy=True)


def _pinned(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Memory that the device copies from and to by itself."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)


def _event(*, blocking: bool = False, timing: bool = False) -> torch.cuda.Event:
    return torch.cuda.Event(blocking=blocking, enable_timing=timing)  # type: ignore[no-untyped-call]  # torch has no types


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types
