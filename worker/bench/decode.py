"""The decode stage alone, with as many processes as the worker would have, format by format."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from storage.objects.blob import Blob
from worker.audio.processes import DecodeProcesses
from worker.bench.audio import decode_by_program, prolong
from worker.bench.machine import children_cpu_seconds
from worker.bench.report import DecodeReport, FormatReport, Latency
from worker.bench.resampling import measure_resampling, write_stereo_mp3
from worker.bench.timing import repeat
from worker.clip import Fetched
from worker.settings import WorkerSettings
from worker.stages.decode import Decode

# Of audio; the latter where no time is to be taken.
LONG_SECONDS, LONG_SECONDS_OF_A_LOOK = 60.0, 12.0


def measure_decode(
    settings: WorkerSettings, files: Sequence[Path], *, directory: Path, seconds: float
) -> DecodeReport:
    """Decode each file, and a minute of it, for `seconds`; longer files go to `directory`.

    Then each of them, and 8.5 s of stereo MP3, with their resampling and without.

    Raises the JobError of a file that cannot be decoded.
    """
    limits = settings.audio_limits()
    long_seconds = LONG_SECONDS if seconds else LONG_SECONDS_OF_A_LOOK
    processes = DecodeProcesses(settings.decode_processes, limits)
    try:
        decode = Decode(processes, limits)
        reports, listing = [], directory / "as often"
        for file in files:
            audio_seconds = decode(Fetched(Blob.open(file))).whole.duration_seconds
            long = directory / f"long_{file.name}"
            prolong(file, long, times=math.ceil(long_seconds / audio_seconds))
            for each in (file, long):
                reports.append(_measure(decode, processes, each, seconds, listing=listing))
        stereo = directory / "stereo_44100.mp3"
        write_stereo_mp3(next(file for file in files if file.suffix == ".mp3"), stereo, directory)
        resampling = measure_resampling(
            processes, limits, [*files, stereo], listing=listing, seconds=seconds
        )
    finally:
        processes.close()
    return DecodeReport(settings.decode_processes, tuple(reports), resampling)


def _measure(
    decode: Decode, processes: DecodeProcesses, file: Path, seconds: float, *, listing: Path
) -> FormatReport:
    """Decode one file alone, in as many threads as there are processes, and by one ffmpeg.

    That is told by `listing` to decode it as often.
    """
    audio_seconds = decode(Fetched(Blob.open(file))).whole.duration_seconds
    alone = repeat(lambda: decode(Fetched(Blob.open(file))), seconds=seconds / 2)
    threads = len(processes.pids)
    cpu_before, started = _cpu_seconds(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        turns = [
            pool.submit(
                repeat, lambda: decode(Fetched(Blob.open(file))), seconds=seconds / 2, least_runs=1
            )
            for _ in range(threads)
        ]
        files = sum(len(turn.result()) for turn in turns)
    wall_seconds = time.perf_counter() - started
    cpu_ms = 1000 * (_cpu_seconds() - cpu_before) / files
    program_ms = 1000 * decode_by_program(file, listing, times=files)
    return FormatReport(
        file=file.name,
        audio_seconds=audio_seconds,
        alone=Latency.of(alone),
        files_per_second=files / wall_seconds,
        cpu_ms=cpu_ms,
        cpu_ms_per_audio_second=cpu_ms / audio_seconds,
        cpu_against_program=cpu_ms / program_ms,
    )


def _cpu_seconds() -> float:
    """CPU time of this process and of the decode processes so far, those that are worn too."""
    return time.process_time() + children_cpu_seconds(psutil.Process())
