"""Here the stages stand in order, each with its limits by the settings."""

from collections.abc import Callable
from dataclasses import dataclass

from storage.objects.store import ObjectSource
from storage.serving.bounded_server import MOST_CONNECTIONS
from worker.audio.limits import AudioLimits
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.processes import DecodeProcesses
from worker.audio.room import Spool
from worker.audio.speech import SpeechDetector
from worker.clip import SAMPLE_RATE_HZ
from worker.engine.engine import Engine
from worker.engine.resampler import DeviceResampler, resampler_for
from worker.fitness.guard import UNGUARDED, Guard
from worker.pipeline.budget import ByteBudget
from worker.pipeline.capacity import affordable_jobs, descriptors_of, jobs_for
from worker.pipeline.progress import PATIENCE_SECONDS, Progress
from worker.pipeline.stage import Stage
from worker.pipeline.threads import Pipeline, SettleTasks
from worker.settings import WorkerSettings
from worker.stages.decode import Decode
from worker.stages.fetch import Fetch
from worker.stages.infer import Infer
from worker.stages.normalize import Normalize
from worker.stages.resample import Resample, needs_resampling
from worker.telemetry.metrics import Metrics

# While the clips of one are on the device, those of the other are normalized.
_RESAMPLE_THREADS = 2
_RESAMPLED_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class Assembly:
    """A pipeline and what it stands on. The pipeline is not started yet."""

    pipeline: Pipeline
    processes: DecodeProcesses

    def close(self) -> None:
        """End all stage threads and decode processes."""
        self.pipeline.terminate()
        self.processes.close()


def assemble(
    settings: WorkerSettings,
    engine: Engine,
    source: ObjectSource,
    spool: Spool,
    *,
    settle: SettleTasks,
    metrics: Metrics,
    guard: Guard = UNGUARDED,
    progress: Progress | None = None,
    device_lost: Callable[[], None] = lambda: None,
) -> Assembly:
    """Fetch → decode → resample → normalize → infer → settle, with the limits of the settings.

    Resample is a stage only where a device does that. Raises DeviceError.
    """
    infer = Infer(engine, worked=metrics.worked)
    resampler = resampler_for(settings.resample, engine.model.device)
    decoded_bytes = round(settings.window_seconds * SAMPLE_RATE_HZ * SAMPLE_BYTES)
    progress = progress or Progress()
    budget = ByteBudget(
        settings.bytes_in_flight,
        # At its own rate, and what that is resampled to.
        decoded_bytes=decoded_bytes if resampler is None else 2 * decoded_bytes,
        frames_bytes=infer.most_frames_bytes,
        progress=progress,
    )
    limits = settings.audio_limits()
    spool.told = lambda total: (
        progress.waits() if total is None else progress.moved(_decode_patience(limits, total))
    )
    processes = DecodeProcesses(settings.decode_processes, limits, spool)
    fetch = guard.unless_open(
        Fetch(source, max_object_bytes=settings.max_object_bytes, admit=budget.admit)
    )
    decode = Decode(processes, limits, SpeechDetector(settings.speech_options()), resampler)
    normalize = Normalize(settings.window_seconds, max_audio_seconds=settings.max_audio_seconds)

    pipeline = Pipeline(
        [
            Stage(
                "fetch",
                fetch,
                settings.fetch_threads,
                settings.fetch_timeout_seconds,
                # Of an object and of a list of segments.
                patience_seconds=2 * settings.fetch_timeout_seconds + PATIENCE_SECONDS,
            ),
            Stage(
                "decode",
                guard(decode),
                settings.decode_processes,
                isolated=guard(decode.isolated),
                patience_seconds=_decode_patience(limits, decoded_bytes),
                holds=lambda recording: recording.held_bytes(decoded_bytes),
            ),
            *([] if resampler is None else [_resample_stage(resampler, decoded_bytes)]),
            Stage(  # where it was decoded, or resampled
                "normalize",
                normalize,
                threads=0,
                patience_seconds=limits.allowed_seconds(limits.max_audio_seconds),
            ),
        ],
        infer,
        settle=settle,
        capacity=affordable_jobs(
            settings.jobs_in_flight or jobs_for(engine.tape_slots),
            beside=MOST_CONNECTIONS
            + descriptors_of(settings.fetch_threads, settings.decode_processes),
        ),
        budget=budget,
        max_wait_seconds=settings.max_wait_seconds,
        # Of one object that is written: a job may have several.
        settle_patience_seconds=3 * settings.fetch_timeout_seconds + PATIENCE_SECONDS,
        progress=progress,
        observe=metrics.observe_stage,
        device_lost=device_lost,
    )
    metrics.in_flight.set_function(lambda: pipeline.in_flight)
    metrics.bytes_in_flight.set_function(lambda: budget.used_bytes)
    metrics.decode_confined.set_function(lambda: processes.confined)
    metrics.spool_bytes.set_function(lambda: spool.used_bytes)
    return Assembly(pipeline, processes)


def _resample_stage(resampler: DeviceResampler, decoded_bytes: int) -> Stage:
    return Stage(
        "resample",
        Resample(resampler),
        _RESAMPLE_THREADS,
        holds=lambda recording: recording.held_bytes(decoded_bytes),
        takes=_RESAMPLED_TOGETHER,
        needed=needs_resampling,
    )


def _decode_patience(limits: AudioLimits, decoded_bytes: int) -> float:
    """Seconds that decoding so much may take: twice, since it may have to begin anew."""
    seconds = decoded_bytes / (SAMPLE_BYTES * SAMPLE_RATE_HZ)
    return 2 * limits.allowed_seconds(seconds) + PATIENCE_SECONDS
