"""What was measured, as values: printed by `show`, kept as JSON in `bench/results/`."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from storage.percentiles import LEAST_RESULTS, MEDIAN, P90, P99, percentile
from worker.bench.choices import Part
from worker.bench.machine import Machine

STAGES = ("queue", "fetch", "decode", "normalize", "infer")


class Spread(NamedTuple):
    """Of the rounds, or turns: the median, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """That of some values; at least one."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Latency:
    """Half of the runs took no longer than `p50_ms`, 99 of 100 no longer than `p99_ms`.

    Percentiles are None of runs that are too few for them; results that are older have no
    `most_ms`. Raises ValueError for a p99 of too few.
    """

    p50_ms: float
    p99_ms: float | None
    runs: int
    p90_ms: float | None = None
    most_ms: float | None = None

    def __post_init__(self) -> None:
        if self.p99_ms is not None and self.runs < LEAST_RESULTS[P99]:
            raise ValueError(f"a p99 of {self.runs} runs says nothing")

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Latency":
        """The latency of runs that took so long; at least one."""
        took_ms = [1000 * each for each in seconds]
        p50, p90, p99 = (percentile(took_ms, share) for share in (MEDIAN, P90, P99))
        assert p50 is not None
        return cls(p50, p99, len(seconds), p90, max(took_ms))


@dataclass(frozen=True, slots=True)
class Rung:
    """The median time of a tape of so many slots; `us_per_slot` stays level where growth is linear.

    `rtfx` is seconds of audio a second.
    """

    slots: int
    clips: int
    ms: float
    us_per_slot: float
    rtfx: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What the device could do with this model at most, as seconds of audio a second.

    `rtfx_matrix` at the rate of one big product; `rtfx_products` at the rates of the network's own
    products, each alone and attention left out; `rtfx_memory` where it only moved bytes. `share_…`
    is how far the engine has come.
    """

    gflop_per_audio_second: float
    matrix_gflops: float
    rtfx_matrix: float
    share_matrix: float
    product_gflops: dict[str, float]
    rtfx_products: float
    share_products: float
    megabytes_per_audio_second: float
    copy_gigabytes_per_second: float
    rtfx_memory: float
    share_memory: float


@dataclass(frozen=True, slots=True)
class EngineReport:
    """`rtfx` is seconds of audio a second; `tape_fill` the share of slots that are used.

    `device_busy` is the share of that time in which the device worked on tapes; results that are
    older than it have none.
    """

    rtfx: float
    clips_per_second: float
    tape_slots: int
    tape_fill: float
    warm_up_seconds: float
    one_clip: Latency
    full_tape: Latency
    ladder: tuple[Rung, ...]
    limits: Limits
    device_busy: float | None = None


@dataclass(frozen=True, slots=True)
class FormatReport:
    """One file, again and again. `cpu_ms` is what it costs in all processes together.

    `alone` is the time of one file while nothing else is decoded; `files_per_second` and `cpu_ms`
    are with every process busy. `cpu_against_program` is `cpu_ms` divided by what one ffmpeg takes,
    that decodes as many right after; results that are older than it have none.
    """

    file: str
    audio_seconds: float
    alone: Latency
    files_per_second: float
    cpu_ms: float
    cpu_ms_per_audio_second: float
    cpu_against_program: float | None = None


@dataclass(frozen=True, slots=True)
class ResamplingReport:
    """CPU of the decode processes for one file: with its resampling, and where a device does that.

    What needs no decode process then takes none of it. `…_against_program` is that divided by what
    one ffmpeg takes for it in the same turns, at that rate. None in a record of before.
    """

    file: str
    with_resampling_ms: float
    without_ms: float
    with_resampling_against_program: float | None = None
    without_against_program: float | None = None


@dataclass(frozen=True, slots=True)
class DecodeReport:
    """Every format, as it is in `samples/` and a minute long."""

    processes: int
    formats: tuple[FormatReport, ...]
    resampling: tuple[ResamplingReport, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeechReport:
    """The same recording, again and again: by one thread, then by `threads` at once.

    `rtfx` is seconds of audio a second, `rtfx_threads` that of all threads together.
    """

    audio_seconds: float
    turns: int
    alone: Latency
    cpu_ms_per_audio_second: float
    rtfx: float
    threads: int
    rtfx_threads: float


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Jobs under one load. `rtfx` is seconds of audio a second; `stage_p50_ms` is of one job.

    `tapes_under_way` is how many tapes, on average, were started and not finished: 1 and more is a
    device that never waits for work. On a CPU it is the share of the time that infer is busy.
    `queue_to_done` is from the moment that a job was to be submitted, and `late` how much later it
    was; None without a schedule, and in results that are older.
    """

    jobs: int
    clips_per_second: float
    rtfx: float
    queue_to_done: Latency
    stage_p50_ms: dict[str, float]
    clips_per_tape: float
    tapes_under_way: float
    late: Latency | None = None


@dataclass(frozen=True, slots=True)
class EndToEndReport:
    """All jobs submitted at once, and as many in a second as half of what that gave.

    `device` and `dtype` are what the worker says in its results. `against_engine` is the speed all
    at once, as a share of what the engine does alone with the same clips in memory, in turns;
    results that are older have none.
    """

    device: str
    dtype: str
    at_once: LoadReport
    half_load: LoadReport
    against_engine: Spread | None = None


@dataclass(frozen=True, slots=True)
class FeedReport:
    """What each job costs beside the network, in whose place `model` stood.

    `cpu_ms` is CPU time a job by process, `thread_ms` that of the worker by kind of thread.
    `lock_held` is the share of the time in which Python's lock was held, at most; `lock_ms` is that
    for each job. `processes` decoded.
    """

    what: str
    model: str
    jobs: int
    jobs_per_second: float
    cpu_ms: dict[str, float]
    thread_ms: dict[str, float]
    lock_held: float
    lock_ms: float
    resident_megabytes: float
    processes: int
    fetch_threads: int


Result = EngineReport | DecodeReport | SpeechReport | EndToEndReport | FeedReport


@dataclass(frozen=True, slots=True)
class Report:
    """A part of the worker measured: with what, and the reasons to doubt it."""

    part: Part
    machine: Machine
    model: str
    dtype: str
    clips: str
    warnings: tuple[str, ...]
    result: Result
