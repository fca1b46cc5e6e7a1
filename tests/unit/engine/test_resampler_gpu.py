"""What a GPU's resampler asks of CUDA, with a stand-in in its place: on which device, and when."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.resampling import noise, resampler
from worker.engine.resampler import DeviceResampler

TOLERANCE = 1e-6  # where sums of float32 are taken in another order


class Cuda:
    """Remembers what each thread had for its device while a stream of ours was current."""

    def __init__(self) -> None:
        self.device = threading.local()
        self.seen: list[object] = []

    def set_device(self, device: object) -> None:
        """Of this thread alone."""
        self.device.current = device

    @contextmanager
    def stream(self, stream: object) -> Iterator[None]:
        """Leaving it makes the stream current again that the thread had on its own device."""
        self.seen.append(getattr(self.device, "current", "cuda:0"))
        yield


class _Event:
    def __init__(self, *, blocking: bool) -> None:
        """It has happened."""

    def record(self, stream: object) -> None:
        """It has happened."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


def _unpinned(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(*shape: int, pin_memory: bool = False, **options: Any) -> Any:
        return make(*shape, **options)

    return made


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    """The device: it computes on the CPU."""
    cuda = Cuda()
    monkeypatch.setattr(torch.cuda, "set_device", cuda.set_device)
    monkeypatch.setattr(torch.cuda, "stream", cuda.stream)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    for name in ("zeros", "empty"):
        monkeypatch.setattr(torch, name, _unpinned(getattr(torch, name)))
    return cuda


def on_stream() -> DeviceResampler:
    """One that takes the stand-in for its GPU."""
    made = resampler(together=True)
    made._stream = object()  # type: ignore[assignment]  # nobody asks it anything
    return made


def test_no_thread_touches_another_gpu(cuda: Cuda) -> None:
    """Each that resamples is on the GPU of the resampler: going back to GPU 0 would begin there."""
    resample = on_stream()
    clips = [noise(4_000), noise(5_000)]

    def run() -> None:
        resample(8_000, clips)
        resample.stream(8_000).push(clips[0], last=True)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cuda.seen == [resample._device] * 4


@pytest.mark.usefixtures("cuda")
def test_what_comes_back_is_what_the_cpu_gives() -> None:
    """The rows of clips alone, each as long as it is."""
    clips: list[Any] = [noise(length, length) for length in (4_097, 900, 2_050)]
    clips.append((32_767 * noise(3_000).clip(-1, 1)).astype(np.int16))
    for clip, made in zip(clips, on_stream()(44_100, clips), strict=True):
        (expected,) = resampler()(44_100, [clip])
        np.testing.assert_allclose(made, expected, atol=TOLERANCE)
