"""Resampling on a CUDA device: as on the CPU, whatever a clip comes with."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import structlog
import torch

from tests.support.resampling import RATES, noise, resampler
from tests.support.worker_process import ROOT
from worker.engine.resampler import DeviceResampler

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="NO CUDA DEVICE: nothing of the GPU path is tested on this machine",
    ),
]
TOLERANCE = 1e-5
# In a process of its own: other tests use the first GPU.
ON_THE_SECOND = """
import threading, torch
from tests.support.resampling import noise, resampler
from worker.engine.resampler import DeviceResampler
resampler()
resample = DeviceResampler(torch.device("cuda", 1))
thread = threading.Thread(target=lambda: resample(8_000, [noise(4_000), noise(5_000)]))
thread.start()
thread.join()
print(*map(torch._C._cuda_hasPrimaryContext, (0, 1)))
"""


@pytest.mark.parametrize("rate_hz", RATES)
def test_a_gpu_gives_what_the_cpu_gives(rate_hz: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one call with others, shorter and longer, int16 and no audio at all; and in parts."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as an engine has it
    on_cpu = resampler()
    on_gpu = DeviceResampler(torch.device("cuda", 0))
    clips: list[Any] = [
        noise(2 * rate_hz + 321),
        noise(500, 1),
        (32_767 * noise(rate_hz, 2).clip(-1, 1)).astype(np.int16),
        np.full(3 * rate_hz, np.nan, np.float32),
    ]
    with structlog.testing.capture_logs() as logs:
        made = on_gpu(rate_hz, clips)
    assert not logs  # it was not the CPU after all
    for clip, found in zip(clips, made, strict=True):
        (expected,) = on_cpu(rate_hz, [clip])
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    stream, whole = on_gpu.stream(rate_hz), clips[0]
    parts = [stream.push(whole[:rate_hz], last=False), stream.push(whole[rate_hz:], last=True)]
    np.testing.assert_allclose(np.concatenate(parts), made[0], atol=TOLERANCE)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="NO SECOND CUDA DEVICE")
def test_no_thread_touches_another_gpu() -> None:
    """On the second, the first has no context: that would take memory, and may not be had."""
    resampler()
    command = [sys.executable, "-c", ON_THE_SECOND]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "False True\n"  # nor was it the CPU: that would be said
