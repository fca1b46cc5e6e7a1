"""Every metric of the worker, in one place; docs/metrics.md is made from it."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from storage.serving.metrics_server import table
from worker.telemetry.gpu_metrics import GpuMetrics

_STAGE_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60)
_JOB_SECONDS = (0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600)
_QUEUE_SECONDS = (0.01, 0.1, 1, 10, 60, 600, 3600, 21_600)


class Metrics:
    """The worker's metrics in a registry of their own. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Jobs that ended, by terminal status and error code ('' where there is none).
        self.ended = Counter(
            "emostream_jobs_ended",
            "Jobs ended by this worker, by status and error code.",
            ["status", "error_code"],
            registry=self.registry,
        )
        # Attempts that failed for a reason that may pass.
        self.retried = Counter(
            "emostream_jobs_retried",
            "Attempts put aside for a retry, by error code.",
            ["error_code"],
            registry=self.registry,
        )
        # Entries that begin did not hand out: repeats, ended jobs, expired, fenced, gone.
        self.dropped = Counter(
            "emostream_entries_dropped",
            "Delivered entries that were not run, by verdict.",
            ["verdict"],
            registry=self.registry,
        )
        # What came too late, since another worker had the entry. It changed nothing.
        self.fenced = Counter(
            "emostream_finishes_fenced",
            "Results dropped because the entry had gone to another worker.",
            registry=self.registry,
        )
        self.retries_fenced = Counter(
            "emostream_retries_fenced",
            "Retries dropped because the entry had gone to another worker.",
            registry=self.registry,
        )
        self.give_backs_fenced = Counter(
            "emostream_give_backs_fenced",
            "Entries that had gone to another worker when they were to be given back.",
            registry=self.registry,
        )
        self.lost = Counter(
            "emostream_leases_lost",
            "Entries found to be another worker's when their lease was renewed.",
            registry=self.registry,
        )
        self.reclaimed = Counter(
            "emostream_entries_reclaimed",
            "Entries taken over after their worker fell silent, or gave them back.",
            registry=self.registry,
        )
        # Jobs that workers died or fell silent with. Those that kill again end with `crash_loop`.
        self.suspects = Counter(
            "emostream_suspects_run",
            "Suspects begun, with nothing else in the process.",
            registry=self.registry,
        )
        self.outages = Counter(
            "emostream_redis_outages",
            "Times that Redis was away or could not write.",
            registry=self.registry,
        )
        self.audio_seconds = Counter(
            "emostream_audio_seconds",
            "Seconds of audio classified.",
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "emostream_stage_seconds",
            "Time in a stage: of a job, in resample of those taken at once, in infer of a tape.",
            ["stage"],
            buckets=_STAGE_SECONDS,
            registry=self.registry,
        )
        self._of_stage: dict[str, Histogram] = {}
        self.device_seconds = Counter(
            "emostream_device_seconds",
            "Seconds that the device worked on tapes.",
            registry=self.registry,
        )
        # The first over the second is how full tapes are.
        self.slots_used = Counter(
            "emostream_tape_slots_used",
            "Slots of tapes that clips used.",
            registry=self.registry,
        )
        self.slots_run = Counter(
            "emostream_tape_slots_run",
            "Slots of tapes that the device ran.",
            registry=self.registry,
        )
        self.batch_clips = Histogram(
            "emostream_batch_clips",
            "Clips on the tape that completed a job.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "emostream_jobs_in_flight",
            "Jobs held by this worker now.",
            registry=self.registry,
        )
        self.spool_bytes = Gauge(
            "emostream_spool_bytes",
            "Room for long audio that is taken in the spool now.",
            registry=self.registry,
        )
        self.decode_confined = Gauge(
            "emostream_decode_confined",
            "1 where decode processes can do nothing but decode; 0 where the kernel refused that.",
            registry=self.registry,
        )
        # Whether it takes jobs at all: see worker/fitness.
        self.sick = Gauge(
            "emostream_sick",
            "1 while this machine is at fault, and the worker takes nothing.",
            registry=self.registry,
        )
        self.store_away = Gauge(
            "emostream_store_away",
            "1 while an object store serves nobody, and the worker takes nothing.",
            registry=self.registry,
        )
        self.lane_paused = Gauge(
            "emostream_lane_paused",
            "1 while an operator has paused that lane, and nothing new of it is begun.",
            ["lane"],
            registry=self.registry,
        )
        self.excused = Counter(
            "emostream_jobs_excused",
            "Jobs given back for a fault that was not theirs: `sick` or `away`.",
            ["fault"],
            registry=self.registry,
        )
        self.job_seconds = Histogram(
            "emostream_job_seconds",
            "Time from a job's begin to its end, by this worker.",
            buckets=_JOB_SECONDS,
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "emostream_job_queue_seconds",
            "Time from a job's first XADD to its last begin; earlier tries are part of it.",
            buckets=_QUEUE_SECONDS,
            registry=self.registry,
        )
        self.bytes_in_flight = Gauge(
            "emostream_bytes_in_flight",
            "Memory charged for jobs held by this worker now.",
            registry=self.registry,
        )

        ProcessCollector(registry=self.registry)
        self.gpu = GpuMetrics()
        self.registry.register(self.gpu)

    def worked(self, seconds: float, slots_used: int, slots_run: int) -> None:
        """Record a tape: seconds of the device, and slots."""
        self.device_seconds.inc(seconds)
        self.slots_used.inc(slots_used)
        self.slots_run.inc(slots_run)

    def observe_stage(self, stage: str, seconds: float) -> None:
        """Record the time that a thread spent in a stage: on a job, on several, or on a tape."""
        histogram = self._of_stage.get(stage)
        if histogram is None:  # `labels` takes as long as all the rest
            histogram = self._of_stage[stage] = self.stage_seconds.labels(stage)
        histogram.observe(seconds)


def catalogue() -> str:
    """All metrics as a Markdown table, for docs/metrics.md."""
    return table(Metrics().registry.collect())
