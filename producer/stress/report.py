"""What a run found, as values: shown, drawn, and kept as JSON to be compared with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from storage.percentiles import MEDIAN, P90, P99, percentile

FORMAT = 1


class UnreadableRun(ValueError):
    """A file holds no run that was kept; the message names what is wrong."""


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds; a percentile is None where the results are too few for it."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    most_ms: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Times | None":
        """Those of some results; None of none."""
        if not milliseconds:
            return None
        told = (percentile(milliseconds, share) for share in (MEDIAN, P90, P99))
        p50, p90, p99 = (None if ms is None else round(ms, 3) for ms in told)
        assert p50 is not None
        mean, most = sum(milliseconds) / len(milliseconds), max(milliseconds)
        return cls(len(milliseconds), round(mean, 3), p50, p90, p99, round(most, 3))


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for. `rate` and `arrivals` are those of an open loop, jobs a second.

    `concurrency` is that of a closed one. `clips` is `short`, `five` or `files`.
    """

    clips: str
    different: int
    duration_s: float
    warm_up_s: float
    seed: int
    lane: str
    rate: float | None = None
    arrivals: str | None = None
    concurrency: int | None = None

    @property
    def end_s(self) -> float:
        """When sending ends, from the start of the run."""
        return self.warm_up_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Service:
    """Who answered, by the results: names, joined where there are several."""

    workers: int
    model: str
    model_revision: str
    device: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Jobs a second after the warm-up. `audio_s` is seconds of audio done in a second.

    `offered` is what the schedule held, `sent` what Redis took, over the time that this took;
    `done` what ended in those seconds. Of a closed loop, `offered` is what it sent.
    """

    offered: float
    sent: float
    done: float
    audio_s: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `cpu` is the busy share of this machine, by all programs; cores are CPU time.

    What could not be seen is None; `device_busy` and `tape_fill` are what workers say.
    """

    at_s: float
    queued: int | None
    in_flight: int | None
    delayed: int | None
    cpu: float
    sender_cores: float
    worker_cores: float | None = None
    device_busy: float | None = None
    tape_fill: float | None = None


@dataclass(frozen=True, slots=True)
class Second:
    """A stretch of the run: jobs offered, sent and done in it, a second."""

    at_s: float
    offered: float
    sent: float
    done: float


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `latency` counts from the intended time, `from_sending` from the real one.

    `late` is the time between the two. `alone` is one clip after another, as a script without a
    schedule would see it. `invalid` says why its figures are not to be trusted, `failed` what the
    service did wrong. `curve` holds (share, ms), `dots` (seconds, ms). Times of stages are of the
    workers; `between` is what is left of the latency.
    """

    asked: Asked
    service: Service
    began_at: str
    cores: int
    invalid: tuple[str, ...]
    failed: tuple[str, ...]
    notes: tuple[str, ...]
    jobs: int
    refused: int
    rates: Rates
    latency: Times | None
    from_sending: Times | None
    late: Times | None
    alone: Times | None
    stages: dict[str, Times]
    clips_per_tape: float | None
    largest_score_difference: float | None
    clock_error_ms: float
    clock_drift_ms: float
    drain_s: float
    open_at_end: int
    stopped_early: bool
    seconds: tuple[Second, ...] = ()
    samples: tuple[Sample, ...] = ()
    curve: tuple[tuple[float, float], ...] = ()
    dots: tuple[tuple[float, float], ...] = ()

    @property
    def verdict(self) -> str:
        """`failed`, `invalid` or `valid`."""
        return "failed" if self.failed else "invalid" if self.invalid else "valid"

    def mean(self, name: str) -> float | None:
        """The mean of a field of the samples after the warm-up, of those that have it."""
        after = [x for x in self.samples if self.asked.warm_up_s <= x.at_s <= self.asked.end_s]
        found = [value for x in after if (value := getattr(x, name)) is not None]
        return sum(found) / len(found) if found else None


@dataclass(frozen=True, slots=True)
class Step:
    """One rate that was tried. `met` is whether it kept the objective."""

    rate: float
    met: bool
    why: str
    run: Run


@dataclass(frozen=True, slots=True)
class Kept:
    """A run as a file holds it; of a search, the best of its steps, and what each came to."""

    run: Run
    format: int = FORMAT
    objective: str | None = None
    steps: tuple[tuple[float, bool, str], ...] = field(default=())


_KEPT = TypeAdapter(Kept)


def as_json(kept: Kept) -> bytes:
    """For a file."""
    return _KEPT.dump_json(kept, indent=1) + b"\n"


def as_object(kept: Kept) -> object:
    """For one line of JSON."""
    return _KEPT.dump_python(kept, mode="json")


def read_run(path: Path) -> Kept:
    """What a file holds. Raises UnreadableRun, OSError."""
    try:
        kept = _KEPT.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UnreadableRun(
            f"{path}: holds no run that `--save` has kept ({where}: {first['msg']})"
        ) from None
    if kept.format != FORMAT:
        raise UnreadableRun(f"{path}: is of format {kept.format}; this program reads {FORMAT}")
    return kept
