"""Files to measure with, in other formats or longer than what is at hand; made by ffmpeg."""

import os
import resource
import subprocess
import wave
from pathlib import Path

import numpy as np

from worker.audio.formats import command_line_filters
from worker.audio.program import find_ffmpeg
from worker.clip import SAMPLE_RATE_HZ, Samples

_ENOUGH = 100  # files for one ffmpeg, of whose time its start is then little
_QUOTED = r"'\''"  # a quotation mark, in a list of ffmpeg's


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


def decode_by_program(
    file: Path, listing: Path, *, times: int, sample_rate_hz: int = SAMPLE_RATE_HZ
) -> float:
    """CPU seconds a file of one ffmpeg that makes of `file` what a decode process does.

    One after the other, so often, though no more than its start counts for little; `listing` is
    written for it. Raises Internal.
    """
    times = min(times, _ENOUGH)
    quoted = str(file).replace("'", _QUOTED)
    listing.write_text(f"file '{quoted}'\n" * times, encoding="utf-8")
    before_seconds = _children_seconds()
    _ffmpeg(
        *("-threads", "1", "-f", "concat", "-safe", "0", "-i", str(listing), "-map", "0:a:0"),
        *(
            "-af",
            # Of packets with odd times it would speak at each.
            f"{command_line_filters(sample_rate_hz)},asetpts=N/SR/TB",
            "-c:a",
            "pcm_f32le",
            "-f",
            "f32le",
            os.devnull,
        ),
    )
    return (_children_seconds() - before_seconds) / times


def _children_seconds() -> float:
    """CPU time of the processes that we have waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ffmpeg(*arguments: str) -> None:
    command = [find_ffmpeg(), "-v", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
