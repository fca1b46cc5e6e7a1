"""What readings of a GPU mean for somebody who pays for it, and what to change.

NVML's utilisation cannot tell a full device from one that a single small kernel keeps: see
docs/gpu.md. So where a worker answers, its own account comes first: the share of time that the
device works on tapes, and how full they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from worker.telemetry.gpu import GpuReading
from worker.telemetry.work import Work

BUSY, STARVED = 0.85, 0.70  # shares of the time; above the one is as it should be
_IDLE = 0.05
_FULL_TAPES = 0.85
_MEMORY_FULL = 0.97
_LITTLE_MEMORY = 0.10
_ALWAYS = 0.99
_OF_BENCH = 0.85
_CORES_TAKEN = 0.9
_ONE_PYTHON = 0.9  # cores; its threads take turns at one, but for what they do without its lock
_COOLING = "look at its cooling: nvidia-smi -q -d TEMPERATURE,PERFORMANCE"
_HEAT = ("heat", "heat, by the hardware", "power brake", "the hardware")


class State(StrEnum):
    """How a GPU is."""

    HEALTHY = "healthy"
    IDLE = "idle"
    UNDER_FED = "under-fed"
    MEMORY_STARVED = "memory-starved"
    ODD = "odd"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state, why, and what to change where there is something to change."""

    state: State
    reason: str
    change: str = ""


def verdict(
    gpu: GpuReading,
    work: Work | None = None,
    bench_audio_seconds: float | None = None,
    machine_busy: float = 0.0,
) -> Verdict:
    """Judge a GPU by what the driver says, and by what the worker on it did, if one is known.

    `bench_audio_seconds` is the seconds of audio a second that `worker bench engine` found here;
    `machine_busy` the share of this machine's cores that was taken, by whomever.
    """
    return next(_found(gpu, work, bench_audio_seconds, machine_busy))


def _found(
    gpu: GpuReading, work: Work | None, bench: float | None, machine_busy: float
) -> Iterator[Verdict]:
    """All that is to be said, what weighs most first."""
    hot = [reason for reason in gpu.held_down_by if reason in _HEAT]
    if hot:
        mhz = f" to {gpu.sm_mhz} of {gpu.most_sm_mhz} MHz" if gpu.sm_mhz else ""
        yield Verdict(State.ODD, f"its clock is held down{mhz} by {hot[0]}", _COOLING)
    share = gpu.memory_share
    if share is not None and share > _MEMORY_FULL:
        yield Verdict(
            State.MEMORY_STARVED,
            f"{share:.0%} of its memory is taken, by {_holders(gpu)}: tapes that do not "
            "fit are cut short",
            "give the worker a GPU of its own, or lower EMO_TAPE_SLOTS",
        )
    yield from _by_work(gpu, work, bench, machine_busy) if work else _by_driver(gpu)


def _by_work(
    gpu: GpuReading, work: Work, bench: float | None, machine_busy: float
) -> Iterator[Verdict]:
    share = f"the device works on tapes {work.device_share:.0%} of the time"
    if work.sick:
        why = "the worker takes no jobs: it found this machine at fault"
        yield Verdict(State.ODD, why, "read the worker's log: docs/operations.md")
    if work.device_share < _IDLE and not work.in_flight:
        yield Verdict(State.IDLE, f"no job is in flight; {_holders(gpu)}")
    if work.device_share < STARVED and work.in_flight:
        yield Verdict(State.UNDER_FED, share, _what_feeds(work, machine_busy))
    if work.tape_fill is not None and work.tape_fill < _FULL_TAPES and work.device_share > BUSY:
        yield Verdict(
            State.UNDER_FED,
            f"{share}, but clips fill only {work.tape_fill:.0%} of a tape",
            "raise EMO_MAX_WAIT_SECONDS, or EMO_JOBS_IN_FLIGHT",
        )
    if bench and work.device_share > BUSY and work.audio_seconds_a_second < _OF_BENCH * bench:
        yield Verdict(
            State.ODD,
            f"{share}, at {work.audio_seconds_a_second / bench:.0%} of the {bench:,.0f} seconds of "
            "audio a second that the bench found",
            "look for other programs on it, and at its clock: nvidia-smi",
        )
    if work.device_share < STARVED:
        yield Verdict(State.HEALTHY, f"{share}; nothing more is waiting")
    if work.device_share < BUSY:
        yield Verdict(State.HEALTHY, f"{share}, a little below the usual {BUSY:.0%}")
    yield Verdict(State.HEALTHY, share)


def _by_driver(gpu: GpuReading) -> Iterator[Verdict]:
    ask = "ask a worker on it, which knows more: --worker host:port"
    if gpu.utilization is None:
        yield Verdict(State.ODD, "its driver does not tell how busy it is", ask)
        return
    busy = f"something runs on it {gpu.utilization:.0%} of the time"
    if gpu.utilization < _IDLE:
        yield Verdict(State.IDLE, f"{busy}; {_holders(gpu)}")
    share = gpu.memory_share
    if share is not None and share < _LITTLE_MEMORY and gpu.utilization >= _ALWAYS:
        yield Verdict(State.ODD, f"{busy}, in {share:.0%} of its memory: it may be one kernel", ask)
    if gpu.utilization < STARVED:
        yield Verdict(State.UNDER_FED, busy, _MORE_DECODERS)
    yield Verdict(State.HEALTHY, busy)


_MORE_DECODERS = "raise EMO_DECODE_PROCESSES and EMO_FETCH_THREADS, or start a second worker on it"


def _what_feeds(work: Work, machine_busy: float) -> str:
    """What keeps the stages before infer from giving more."""
    if machine_busy > _CORES_TAKEN:
        return f"{machine_busy:.0%} of this machine's cores is taken: it needs more of them"
    if work.cores > _ONE_PYTHON:
        return f"start a second worker on it: this one takes {work.cores:.1f} cores, all it can"
    before = {name: share for name, share in work.stage_shares.items() if name != "infer"}
    slowest = max(before, key=lambda name: before[name], default="")
    return {
        "fetch": "raise EMO_FETCH_THREADS: most of the time goes into fetching",
        "decode": "raise EMO_DECODE_PROCESSES: most of the time goes into decoding",
    }.get(slowest, "start a second worker on it: one has no more to give")


def _holders(gpu: GpuReading) -> str:
    if not gpu.programs:
        return "no program that is seen from here"
    return ", ".join(f"process {program.pid}" for program in gpu.programs)
