"""Just enough of `torch.cuda`, on the CPU, to run the ladder of graphs and to make it fail.

A graph here runs its rung's operations anew when it is replayed. What streams, events and pinned
memory are for cannot be shown this way; what is copied where, who owns which buffer, and what
happens after an error can.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from worker.engine import graphs
from worker.model import gpu_tuning
from worker.model.operations import TorchOperations
from worker.model.tape_operations import GpuNetwork

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB."


class _Stream:
    def __init__(self, device: object = None) -> None:
        """A stream has nothing to order here."""

    def wait_stream(self, other: object) -> None:
        """Nothing to wait for."""

    def wait_event(self, event: object) -> None:
        """Nothing to wait for."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


class _Event:
    def __init__(self, *, blocking: bool = False, enable_timing: bool = False) -> None:
        """An event has happened as soon as it is recorded."""
        self.timing = enable_timing
        self.at = 0.0

    def record(self) -> None:
        """It has happened."""
        self.at = time.perf_counter()

    def elapsed_time(self, later: "_Event") -> float:
        """Milliseconds; as CUDA does, of events that are for timing alone."""
        assert self.timing
        assert later.timing
        return 1000 * (later.at - self.at)

    def query(self) -> bool:
        """It has."""
        return True

    def synchronize(self) -> None:
        """Nothing to wait for."""


class _Graph:
    def replay(self) -> None:
        """What was captured has run already."""


class _TapeOperations(TorchOperations):
    """A tape's operations in torch: what the kernels compute is tested where they are."""

    def __init__(
        self, network: GpuNetwork, *, roles: Tensor, edges: Tensor, blocks: Tensor
    ) -> None:
        self._slopes, self._extra = network.slopes, network.extra_tokens
        self._edges = edges

    def __call__(self, qkv: Tensor, layer: int) -> Tensor:
        """Attention within segments: (slots, 3, heads, head_dim) to (slots, heads × head_dim)."""
        place = torch.arange(len(qkv))
        first, last = place.clone(), place + 1  # what belongs to no segment sees itself
        for start, stop in self._edges.T.tolist():
            if stop:
                first[start - self._extra : stop] = start - self._extra
                last[start - self._extra : stop] = stop
        first, last = first[:, None], last[:, None]
        seen = (place >= first) & (place < last)  # (slots, slots)
        frames = first + self._extra
        among = (place[:, None] >= frames) & (place >= frames)
        distance = (place[:, None] - place).abs() * among
        slope = self._slopes[layer if len(self._slopes) > 1 else 0]
        bias = (-slope[:, None, None] * distance).masked_fill(~seen, -torch.inf)
        q, k, v = qkv.permute(1, 2, 0, 3)  # 3 × (heads, slots, head_dim)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(qkv.dtype))
        return out.transpose(0, 1).flatten(1)

    def means(self, x: Tensor) -> Tensor:
        """Each segment's mean: float32 (segments, dim)."""
        runs = self._edges.T.tolist()
        return torch.stack([x[start : max(stop, 1)].float().mean(dim=0) for start, stop in runs])


class CudaStub:
    """What the device is made to do."""

    def __init__(self) -> None:
        self.captured: list[int] = []  # slots of each rung, in order
        self.fail_capture: Callable[[int], None] = lambda slots: None
        self.fail_copy: Callable[[], None] = lambda: None
        self.capability = (9, 0)
        self.lost = False  # every call that asks the device fails
        self.capture_broke_off = False  # the allocator believes that a capture is under way

    def synchronize(self, device: object = None) -> None:
        """Ask the device."""
        if self.lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def empty_cache(self) -> None:
        """Give memory back."""
        self.synchronize()
        if self.capture_broke_off:
            raise RuntimeError("captures_underway.empty() INTERNAL ASSERT FAILED")


@contextmanager
def cuda_stub(patch: pytest.MonkeyPatch) -> Iterator[CudaStub]:
    """Put the stub in the place of `torch.cuda` as the engine uses it."""
    stub = CudaStub()
    captured = graphs._Captured

    class Captured(captured):  # type: ignore[misc, valid-type]  # a variable, but also a class
        def __init__(self, rung: graphs.Rung, stream: Any, pool: Any) -> None:
            stub.fail_capture(rung.slots)
            super().__init__(rung, stream, pool)
            self.graph = self
            stub.captured.append(rung.slots)

        def replay(self) -> None:
            frames, embeddings = self.rung.step()
            self.frames.copy_(frames)
            self.embeddings.copy_(embeddings)

    def copied(frames: Tensor) -> Tensor:
        stub.fail_copy()
        return frames.to(torch.float32, copy=True)

    def pinned(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype)

    patch.setattr(graphs, "_Captured", Captured)
    patch.setattr(graphs, "_pinned", pinned)
    patch.setattr(graphs, "TapeOperations", _TapeOperations)
    patch.setattr(graphs, "_copied", copied)
    patch.setattr(gpu_tuning, "tune_gpu", lambda *_, **__: None)  # has tests of its own
    patch.setattr(Tensor, "record_stream", lambda tensor, stream: None)
    for name, value in {
        "Stream": _Stream,
        "Event": _Event,
        "CUDAGraph": _Graph,
        "graph": lambda *_, **__: nullcontext(),
        "stream": lambda _: nullcontext(),
        "current_stream": _Stream,
        "graph_pool_handle": lambda: None,
        "set_device": lambda _: None,
        "get_device_capability": lambda _: stub.capability,
        "synchronize": stub.synchronize,
        "empty_cache": stub.empty_cache,
    }.items():
        patch.setattr(torch.cuda, name, value)
    yield stub


def out_of_memory() -> None:
    """Fail as CUDA's allocator does."""
    raise torch.OutOfMemoryError(OUT_OF_MEMORY)
