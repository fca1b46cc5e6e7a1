"""What decode processes spend on a file with its resampling, and without: in turns, in one run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil

from storage.objects.blob import Blob
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.bench.audio import convert, decode_by_program, prolong
from worker.bench.machine import children_cpu_seconds
from worker.bench.report import ResamplingReport
from worker.bench.timing import repeat
from worker.clip import Fetched, Pcm, Samples
from worker.stages.decode import Decode

MP3_SECONDS = 8.5
_TURNS = 4


class _Nobody:
    """Stands in for the device: how long that takes is not asked here."""

    def stream(self, sample_rate_hz: int) -> "_Nobody":
        return self

    def push(self, samples: Pcm, *, last: bool) -> Samples:
        return np.zeros(len(samples), np.float32)


def write_stereo_mp3(sample: Path, target: Path, directory: Path) -> None:
    """Speech of 8.5 s as stereo MP3 of 44.1 kHz; what lies between is put into `directory`."""
    long = directory / f"long{sample.suffix}"
    prolong(sample, long, times=3)
    options = ("-t", str(MP3_SECONDS), "-ac", "2", "-ar", "44100", "-b:a", "128k")
    convert(long, target, *options)


def measure_resampling(
    processes: DecodeProcesses,
    limits: AudioLimits,
    files: Sequence[Path],
    *,
    listing: Path,
    seconds: float,
) -> tuple[ResamplingReport, ...]:
    """Decode each file for `seconds`, by turns for a device that resamples and for none.

    After each turn one ffmpeg does the same as often; `listing` is written for it.
    """
    with_it, without = Decode(processes, limits), Decode(processes, limits, resampler=_Nobody())
    reports = []
    for file in files:
        spent = _in_turns((with_it, without), file, seconds, listing)
        (with_ms, with_program_ms), (without_ms, without_program_ms) = spent
        reports.append(
            ResamplingReport(
                file.name,
                with_ms,
                without_ms,
                with_resampling_against_program=with_ms / with_program_ms,
                without_against_program=without_ms / without_program_ms,
            )
        )
    return tuple(reports)


def _in_turns(
    ways: tuple[Decode, Decode], file: Path, seconds: float, listing: Path
) -> list[tuple[float, float]]:
    """CPU milliseconds for the file, each way: of the decode processes, and of ffmpeg."""
    rates_hz = [decode(Fetched(Blob.open(file))).whole.sample_rate_hz for decode in ways]
    spent, by_program, decoded = [0.0, 0.0], [0.0, 0.0], [0, 0]
    for turn in range(_TURNS):
        for way in (0, 1) if turn % 2 else (1, 0):
            before = children_cpu_seconds(psutil.Process())
            # They are added up: it takes no three for a median.
            times = repeat(
                lambda decode=ways[way]: decode(Fetched(Blob.open(file))),  # type: ignore[misc]  # bound now
                seconds=seconds / _TURNS / 2,
                least_runs=1,
            )
            spent[way] += children_cpu_seconds(psutil.Process()) - before
            by_program[way] += len(times) * decode_by_program(
                file, listing, times=len(times), sample_rate_hz=rates_hz[way]
            )
            decoded[way] += len(times)
    return [
        (1000 * spent[way] / decoded[way], 1000 * by_program[way] / decoded[way]) for way in (0, 1)
    ]
