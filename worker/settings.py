"""The worker's settings. docs/settings.md is made from these: `python -m worker settings`."""

import os
import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, field_validator, model_validator

from storage.settings import Count, Seconds, SharedSettings, Size, require_address, variable
from worker.audio.limits import SPOOL_BYTES, AudioLimits
from worker.audio.turns import SHORT_TO_LONG, SHORTEST_MAX_SECONDS, SpeechOptions
from worker.clip import FRAME_SAMPLES, SAMPLE_RATE_HZ

_LEAST_DECODE_BYTES = 256 * 1024**2  # half of it is libraries, which all share
_MOST_DECODE_BYTES = 1024**3
_MOST_DECODE_PROCESSES_CPU, _MOST_DECODE_PROCESSES_GPU = 16, 32
_SHORTEST_WINDOW_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ

# What is a machine's, a place's or nobody's business: each worker has its own.
_OWN = {
    *("redis_url", "max_backlog", "device", "compute_threads", "require_durable_redis"),
    *("tape_slots", "max_wait_seconds", "grace_seconds", "jobs_in_flight", "bytes_in_flight"),
    *("fetch_threads", "decode_processes", "decode_memory_bytes", "spool_dir", "spool_bytes"),
    *("metrics_address", "log_level"),
}

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: by its affinity, and by its container's quota."""
    allowed = len(os.sched_getaffinity(0))
    try:
        share, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return allowed
    return allowed if share == "max" else max(1, min(allowed, int(share) // int(period)))


def is_gpu_here(devices: Path = Path("/dev")) -> bool:
    """Whether a driver of NVIDIA's is there; torch, which knows, takes long to import."""
    return any((devices / name).exists() for name in ("nvidiactl", "dxg"))


def decode_processes(device: str, own_cores: int) -> int:
    """Half of the cores where the network has the rest; beside a GPU all but the worker's own."""
    if device.startswith("cuda") or (device == "auto" and is_gpu_here()):
        return max(1, min(_MOST_DECODE_PROCESSES_GPU, own_cores - 1))
    return max(1, min(_MOST_DECODE_PROCESSES_CPU, own_cores // 2))


def memory_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int:
    """Memory that this process may use: the machine's, or less by its container's limit."""
    installed = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(installed, int(limit.read_text(encoding="ascii")))
    except (OSError, ValueError):  # "max" is no number
        return installed


def decode_share_bytes(processes: int, memory: int) -> int:
    """Memory that one of so many decode processes may use, so that all together use half of it."""
    return max(_LEAST_DECODE_BYTES, min(_MOST_DECODE_BYTES, memory // 2 // processes))


class WorkerSettings(SharedSettings):
    """Everything a worker can be told."""

    model: str = Field(
        "iic/emotion2vec_plus_large",
        description="A ModelScope id, a directory, or `random:large`, `random:tiny` (untrained, "
        "for benchmarks).",
    )
    model_revision: str = Field(
        "", description="Revision of a ModelScope id; empty for the one this release was made for."
    )
    device: str = Field(
        "auto",
        description="`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="`float32`, `bfloat16`, `float16`, or `auto`: float16 on a GPU, or bfloat16 "
        "where the model's values could leave its range; on a CPU bfloat16 if it computes in "
        "that, else float32.",
    )
    resample: Literal["auto", "device", "ffmpeg"] = Field(
        "auto",
        description="Who brings audio to 16 kHz: `device`, by torchaudio, where the network runs; "
        "`ffmpeg`, the decode processes; `auto`: the device if it is a GPU and has torchaudio.",
    )
    compute_threads: Count = Field(
        default_factory=cores,
        description="Threads that run the network on a CPU. Default: one for each core; "
        "decoding takes so much less there that it needs none of its own.",
    )
    require_durable_redis: bool = Field(
        False,
        description="Do not start on a Redis that may lose jobs: one that evicts keys, has no "
        "append-only file, or does not tell. Otherwise that is logged at the start and each hour.",
    )
    buckets: str = Field(
        "",
        description="Buckets that a job may name, comma-separated, besides that of `EMO_STORE`.",
    )
    output_prefix: str = Field("emostream/", description="Key prefix of the outputs.")
    tape_slots: Annotated[int, Field(ge=1, le=262_144)] | None = Field(
        None,
        description="Frame slots on one tape (50 a second, 10 more a clip); empty: from memory.",
    )
    max_wait_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        0.05, description="How long a clip may wait for company on its tape."
    )
    lease_seconds: Seconds = Field(30, description="How long a silent worker keeps its jobs.")
    grace_seconds: NotNegative = Field(
        25, description="After SIGTERM: time to finish what is in flight; the rest is given back."
    )
    max_attempts: Count = Field(5, description="Tries on retryable errors, then a dead letter.")
    max_crashes: Count = Field(
        2, description="Workers that may die while a job runs alone in them, then a dead letter."
    )
    retry_seconds: Seconds = Field(
        1, description="Wait before the second attempt; doubles each time, with jitter, up to 60."
    )
    fetch_timeout_seconds: Seconds = Field(60, description="Limit for fetching one object.")
    decode_timeout_seconds: Seconds = Field(
        30, description="Limit for decoding one file; 0.1 s more for each second of its audio."
    )
    window_seconds: Annotated[float, Field(ge=_SHORTEST_WINDOW_SECONDS, le=120)] = Field(
        30, description="Longer audio is classified in windows of at most this length."
    )
    max_audio_seconds: Annotated[float, Field(ge=_SHORTEST_WINDOW_SECONDS, allow_inf_nan=False)] = (
        Field(7200, description="Longer audio is `audio_too_long`.")
    )
    max_object_bytes: Size = Field(
        ByteSize(512 * 1024**2), description="Larger objects are `object_too_large`."
    )
    jobs_in_flight: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="Jobs one worker holds at most, over all stages; empty: four tapes of clips of "
        "1.5 s, and at least 256.",
    )
    bytes_in_flight: Size = Field(
        ByteSize(1024**3), description="Memory for what is fetched and decoded, over all stages."
    )
    fetch_threads: Count = Field(
        default_factory=lambda: min(32, 4 * cores()),
        description="Objects fetched at once. Default: 4 for each core, at most 32.",
    )
    decode_processes: Count = Field(
        default_factory=lambda given: decode_processes(given.get("device", "auto"), cores()),
        description="Decode processes. Default: one for every two cores, at most 16; beside a GPU "
        "one for every core but one, at most 32.",
    )
    decode_memory_bytes: Size = Field(
        default_factory=lambda given: ByteSize(
            decode_share_bytes(given.get("decode_processes", 1), memory_bytes())
        ),
        description="Address space of one decode process. Default: its share in half of the "
        "memory, at least 256 MiB and at most 1 GiB.",
    )
    spool_dir: str = Field(
        default_factory=tempfile.gettempdir,
        description="Where long audio waits as unnamed files. Default: the system's.",
    )
    spool_bytes: Size = Field(
        ByteSize(SPOOL_BYTES),
        description="Long audio that may wait there at once; a job waits for room, and a recording "
        "that takes more alone is `audio_too_long`. Share it out among workers on one disk.",
    )
    speech_threshold: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.5,
        description="`segments=speech`: probability of speech at which a turn begins; it ends 0.15 "
        "below.",
    )
    speech_min_turn_seconds: NotNegative = Field(
        0.25, description="`segments=speech`: shorter turns are dropped."
    )
    speech_merge_gap_seconds: NotNegative = Field(
        0.3, description="`segments=speech`: turns with less between them are one."
    )
    speech_pad_seconds: NotNegative = Field(
        0.1, description="`segments=speech`: added to both sides of a turn; they never overlap."
    )
    speech_max_turn_seconds: Annotated[
        float, Field(ge=SHORTEST_MAX_SECONDS, allow_inf_nan=False)
    ] = Field(30, description="`segments=speech`: longer turns are cut where they are quietest.")
    metrics_address: str = Field(
        "127.0.0.1:9464",
        description="Where `/metrics`, `/livez` and `/readyz` are served; empty for nowhere.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least level of what is logged."
    )

    def agreed(self) -> dict[str, str]:
        """The variables that all workers under one prefix should agree on, with their values."""
        own = {name for name in type(self).model_fields if name in _OWN or name.startswith("s3_")}
        told = self.model_dump(mode="json", exclude=own)
        return {variable(name): str(value) for name, value in told.items()}

    def audio_limits(self) -> AudioLimits:
        """What one file may cost to decode."""
        return AudioLimits(
            max_audio_seconds=self.max_audio_seconds,
            window_seconds=self.window_seconds,
            timeout_seconds=self.decode_timeout_seconds,
            memory_bytes=self.decode_memory_bytes,
            spool_dir=Path(self.spool_dir),
            spool_bytes=self.spool_bytes,
        )

    def speech_options(self) -> SpeechOptions:
        """What counts as a turn of speech."""
        return SpeechOptions(
            threshold=self.speech_threshold,
            min_turn_seconds=self.speech_min_turn_seconds,
            merge_gap_seconds=self.speech_merge_gap_seconds,
            pad_seconds=self.speech_pad_seconds,
            max_turn_seconds=self.speech_max_turn_seconds,
        )

    @model_validator(mode="after")
    def _turns_can_be_cut(self) -> Self:
        if self.speech_max_turn_seconds < SHORT_TO_LONG * self.speech_min_turn_seconds:
            raise ValueError(
                f"EMO_SPEECH_MAX_TURN_SECONDS={self.speech_max_turn_seconds:g}: must be at least "
                f"{SHORT_TO_LONG} times EMO_SPEECH_MIN_TURN_SECONDS"
            )
        return self

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
            raise ValueError("must be auto, cpu, cuda or cuda:N")
        return value

    @field_validator("metrics_address")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        try:
            return value and require_address(value)
        except ValueError as error:
            raise ValueError(f"{error}, or empty") from None

    @field_validator("tape_slots", "jobs_in_flight", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value
