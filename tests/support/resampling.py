"""torchaudio, as `tests/torchaudio` has fetched it; and what resampling is judged by."""

import os
import sys

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.support.worker_process import ROOT
from worker.clip import Samples
from worker.engine.resampler import DeviceResampler, require_torchaudio
from worker.model.device import DeviceError

FOLDER = ROOT / "build" / "torchaudio"
# What recordings have, and one that hardly any has.
RATES = (8_000, 11_025, 22_050, 24_000, 32_000, 37_800, 44_100, 48_000)
NO_DIVISOR = 44_101  # in common with 16,000: no device resamples it
_WINDOW = 512


def resampler(*, together: bool | None = None) -> DeviceResampler:
    """One for the CPU. Without torchaudio the test is skipped; in CI it fails."""
    if FOLDER.is_dir() and str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    try:
        require_torchaudio()
    except DeviceError:
        message = "NO torchaudio: run tests/torchaudio, which fetches it"
        assert not os.environ.get("CI"), message
        pytest.skip(message)
    return DeviceResampler(torch.device("cpu"), together=together)


def noise(num_samples: int, seed: int = 0) -> Samples:
    """White noise, float32 (num_samples,), hardly ever beyond [-1, 1]."""
    drawn = np.random.default_rng(seed).standard_normal(num_samples) * 0.2
    return drawn.astype(np.float32)


def power(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean power by frequency, from 0 to half of the rate: float64 (257,)."""
    starts = range(0, len(samples) - _WINDOW, _WINDOW // 2)
    frames = np.stack([samples[start : start + _WINDOW] for start in starts]) * np.hanning(_WINDOW)
    mean: NDArray[np.float64] = (np.abs(np.fft.rfft(frames)) ** 2).mean(axis=0)
    return mean


def band(low_hz: float, high_hz: float) -> slice:
    """Where these frequencies are in `power` of samples at 16 kHz."""
    return slice(round(low_hz * _WINDOW / 16_000), round(high_hz * _WINDOW / 16_000))
