"""Peaks as such: exact whatever the pieces, and never more than so many of them."""

import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.audio import peaks
from worker.audio.peaks import FIRST_BIN_SAMPLES, Peaks, most_peaks_bytes


def made(channels: NDArray[np.uint8], piece: int) -> bytes:
    """Peaks of uint8 (channels, num_samples), given some samples at a time."""
    making = Peaks(len(channels), 16_000)
    for start in range(0, channels.shape[1], piece):
        making.push(one[start : start + piece].tobytes() for one in channels)
    return making.finish()


def expected(channels: NDArray[np.uint8], bin_samples: int) -> NDArray[np.int8]:
    """Lowest and highest of each bin: int8 (bins, channels, 2)."""
    signed = (channels.astype(np.int16) - 128).astype(np.int8)
    whole = np.pad(signed, ((0, 0), (0, -channels.shape[1] % bin_samples)), mode="edge")
    bins = whole.reshape(len(channels), -1, bin_samples)
    return np.stack([bins.min(axis=2), bins.max(axis=2)], axis=2).transpose(1, 0, 2)


@pytest.mark.parametrize("num_samples", [1, 159, 160, 161, 10_239, 10_240, 10_241, 100_003])
@pytest.mark.parametrize("num_channels", [1, 2, 8])
@pytest.mark.parametrize("piece", [7, 4_096])
def test_peaks_are_the_extremes_of_each_bin(
    num_samples: int, num_channels: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, for every channel, while bins double to stay few."""
    monkeypatch.setattr(peaks, "MOST_BINS", 64)
    rng = np.random.default_rng(num_samples)
    channels = rng.integers(0, 256, (num_channels, num_samples), np.uint8)
    data = made(channels, piece)
    version, flags, rate_hz, bin_samples, bins, told = struct.unpack("<iIiiII", data[:24])
    assert (version, flags, rate_hz, told) == (2, 1, 16_000, num_channels)
    assert bins <= 64
    doubled = bin_samples // FIRST_BIN_SAMPLES
    assert bin_samples == FIRST_BIN_SAMPLES * 2 ** (doubled.bit_length() - 1)
    assert bin_samples == FIRST_BIN_SAMPLES or bins >= 32, "no coarser than it has to be"
    found = np.frombuffer(data, np.int8, offset=24).reshape(bins, num_channels, 2)
    np.testing.assert_array_equal(found, expected(channels, bin_samples))


def test_peaks_are_bounded_however_long_the_audio_is() -> None:
    """Of two hours of a stereo call less than a quarter of a megabyte."""
    second = np.random.default_rng(0).integers(0, 256, (2, 16_000), np.uint8)
    data = made(np.tile(second, 7_200), 16_000 * 600)
    assert 180_000 < len(data) <= most_peaks_bytes(2) < 270_000
