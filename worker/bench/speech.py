"""Where speech is: the sample clips and pauses, joined, by one thread and by one for each core."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from storage.objects.blob import Blob
from worker.audio.processes import DecodeProcesses
from worker.audio.speech import SpeechDetector
from worker.bench.report import Latency, SpeechReport
from worker.bench.timing import repeat
from worker.clip import SAMPLE_RATE_HZ, Fetched, Samples
from worker.settings import WorkerSettings, cores
from worker.stages.decode import Decode

PAUSE_SECONDS = 1.0
LEAST_SECONDS = 60.0


def measure_speech(
    settings: WorkerSettings, files: Sequence[Path], *, seconds: float
) -> SpeechReport:
    """Find the turns in a minute or more of the files, for `seconds`.

    Raises InvalidJob where the packages for it are not installed, and the JobError of a file that
    cannot be decoded.
    """
    samples = _joined(settings, files)
    audio_seconds = len(samples) / SAMPLE_RATE_HZ
    detector = SpeechDetector(settings.speech_options())
    turns = detector(samples)  # loads the network
    cpu_before = time.process_time()
    alone = repeat(lambda: detector(samples), seconds=seconds / 2)
    cpu_ms = 1000 * (time.process_time() - cpu_before) / len(alone)
    threads, started = cores(), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        rounds = [
            pool.submit(repeat, lambda: detector(samples), seconds=seconds / 2)
            for _ in range(threads)
        ]
        runs = sum(len(each.result()) for each in rounds)
    wall_seconds = time.perf_counter() - started
    return SpeechReport(
        audio_seconds=audio_seconds,
        turns=len(turns),
        alone=Latency.of(alone),
        cpu_ms_per_audio_second=cpu_ms / audio_seconds,
        rtfx=len(alone) * audio_seconds / sum(alone),
        threads=threads,
        rtfx_threads=runs * audio_seconds / wall_seconds,
    )


def _joined(settings: WorkerSettings, files: Sequence[Path]) -> Samples:
    """The files one after the other, a second of silence before each, until they fill a minute."""
    limits = settings.audio_limits()
    processes = DecodeProcesses(settings.decode_processes, limits)
    pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE_HZ), np.float32)
    try:
        decode = Decode(processes, limits)
        once = [
            part
            for file in files
            for part in (pause, decode(Fetched(Blob.open(file))).whole.samples)
        ]
    finally:
        processes.close()
    joined = np.concatenate(once)
    return np.tile(joined, -(-int(LEAST_SECONDS * SAMPLE_RATE_HZ) // len(joined)))
