"""Files to measure with, in other formats or longer than what is at hand; made by ffmpeg."""

import subprocess
import wave
from pathlib import Path

import numpy as np

from worker.audio.program import find_ffmpeg
from worker.clip import SAMPLE_RATE_HZ, Samples


def write_wav(path: Path, samples: Samples) -> None:
    """Write float32 (num_samples,), [-1, 1], as 16 kHz mono WAV of 16-bit integers."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, len(samples), "NONE", ""))
        file.writeframes((samples.clip(-1, 1) * 32_767).astype(np.int16).tobytes())


def convert(source: Path, target: Path, *options: str) -> None:
    """Write `source` in the format of the target's name and the options. Raises Internal."""
    _ffmpeg("-i", str(source), *options, str(target))


def prolong(source: Path, target: Path, *, times: int) -> None:
    """Write `source` that many times over, its packets as they are. Raises Internal."""
    loop = ["-stream_loop", str(times - 1), "-i", str(source)]
    _ffmpeg(*loop, "-map", "0:a", "-c", "copy", str(target))


def _ffmpeg(*arguments: str) -> None:
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
