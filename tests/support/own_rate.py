"""Recordings at their own rate, resampled both ways: by a decode process, and after it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.objects.blob import Blob
from tests.support.audio_files import encode, wav
from tests.support.resampling import noise, resampler
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.clip import Fetched, Recording, Waveform
from worker.engine.resampler import DeviceResampler
from worker.stages.decode import Decode
from worker.stages.resample import Resample

Sound = NDArray[np.float32]


class Ways:
    """Both ways to 16 kHz, on the same decode processes."""

    def __init__(
        self, processes: DecodeProcesses, limits: AudioLimits, resampler: DeviceResampler
    ) -> None:
        self.processes = processes
        self.decode = Decode(processes, limits, lambda samples, forget: [(0, 1_600)])
        self.leaving = Decode(processes, limits, lambda samples, forget: [(0, 1_600)], resampler)
        self.resample = Resample(resampler)

    def own(self, data: bytes, **fields: Any) -> Recording:
        """As the decode stage leaves it."""
        return self.leaving(Fetched(Blob.from_bytes(data), **fields))

    def by_device(self, data: bytes, **fields: Any) -> Waveform:
        """Resampled by torchaudio, whoever does that."""
        return self.resample([self.own(data, **fields)])[0].whole

    def by_ffmpeg(self, data: bytes, **fields: Any) -> Waveform:
        """Resampled by the decode process."""
        return self.decode(Fetched(Blob.from_bytes(data), **fields)).whole


def ways_of(limits: AudioLimits) -> Iterator[Ways]:
    """Both, until the end."""
    resample = resampler()
    processes = DecodeProcesses(1, limits)
    yield Ways(processes, limits, resample)
    processes.close()


def int16_wav(samples: Sound, rate_hz: int, channels: int = 1) -> bytes:
    """A 16-bit WAV of floats."""
    data = (samples * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes()
    return wav(data, sample_rate_hz=rate_hz, channels=channels)


def flac(samples: Sound, rate_hz: int, layout: str = "mono") -> bytes:
    """A FLAC file of 16 bits."""
    return encode(
        samples, rate_hz, container="flac", codec="flac", layout=layout, sample_format="s16"
    )


def stereo(num_samples: int) -> Sound:
    """Two channels of noise: (2, num_samples)."""
    return np.stack([noise(num_samples, 1), noise(num_samples, 2)])
