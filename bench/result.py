"""A comparison as it is kept in `bench/results/`, one file a device."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from worker.bench.machine import Machine
from worker.bench.report import Latency, Report, Spread

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class SideResult:
    """One side on one workload. `rtfx` is seconds of audio a second, the median of the rounds.

    `latency` is that of one clip alone; `tape_fill` the share of the slots run that a clip used;
    the reference has no tape. `ratio` is how many times as fast as the reference in the same round,
    by wall time; the reference has none either. None too is what was not measured.
    """

    name: str
    dtype: str
    rtfx: float
    clips_per_second: float
    cpu_seconds_per_audio_second: float
    latency: Latency | None = None
    tape_fill: float | None = None
    ratio: Spread | None = None
    largest_score_difference: float | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """The same clips for all sides."""

    clips: str
    meaning: str
    count: int
    audio_seconds: float
    sides: tuple[SideResult, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of `python -m bench`; `parts` is what `python -m worker bench` said afterwards."""

    machine: Machine
    model: str
    rounds: int
    warnings: tuple[str, ...]
    workloads: tuple[Workload, ...]
    parts: tuple[Report, ...] = ()


_COMPARISON = TypeAdapter(Comparison)


def read_results(directory: Path = RESULTS) -> dict[Path, Comparison]:
    """Every result that is kept, by its file."""
    return {
        path: _COMPARISON.validate_json(path.read_bytes())
        for path in sorted(directory.glob("*.json"))
    }


def write_result(comparison: Comparison, directory: Path = RESULTS) -> Path:
    """Keep a result under its machine's name."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{comparison.machine.slug}.json"
    path.write_bytes(_COMPARISON.dump_json(comparison, indent=2) + b"\n")
    return path
