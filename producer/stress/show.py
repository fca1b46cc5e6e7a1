"""A run as tables and sentences, for a terminal and for the page."""

from dataclasses import dataclass

from rich.table import Table

from producer.stress.report import Asked, Kept, Run, Times
from storage.terminal.text import cell

_UNKNOWN = "—"
_HUNDRED = 100


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table of text; the first column names things."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        for number_, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number_ else "left")
        for row in self.rows:
            table.add_row(*map(cell, row))
        return table


def number(value: float | None) -> str:
    """Three digits that say something."""
    if value is None:
        return _UNKNOWN
    return f"{value:,.0f}" if abs(value) >= _HUNDRED else f"{value:.3g}"


def share(value: float | None) -> str:
    """In percent."""
    return _UNKNOWN if value is None else f"{value:.0%}"


def headline(run: Run) -> list[str]:
    """The verdict and all reasons for it, a line each."""
    words = {
        "valid": "VALID: the schedule was kept, each job ended once, with the scores it has alone",
        "invalid": "INVALID: do not trust these figures",
        "failed": "FAILED: the service did not do what it promises",
    }
    return [words[run.verdict], *run.failed, *run.invalid]


def described(asked: Asked) -> str:
    """What was asked for, in words."""
    if asked.rate is not None:
        load = f"{asked.rate:g} jobs a second, {asked.arrivals}"
    else:
        load = f"{asked.concurrency} under way at a time"
    return (
        f"{load}, for {asked.duration_s:g} s after {asked.warm_up_s:g} s of warm-up; "
        f"{asked.different} clips, {asked.clips}; seed {asked.seed}; lane {asked.lane}"
    )


def served(run: Run) -> str:
    """By whom."""
    service = run.service
    workers = "1 worker" if service.workers == 1 else f"{service.workers} workers"
    return f"{workers}: {service.model} in {service.dtype} on {service.device}"


def sheets(kept: Kept) -> list[Sheet]:
    """All that a run says in tables."""
    return [*_steps(kept), facts(kept.run), latencies(kept.run), stages(kept.run)]


def facts(run: Run) -> Sheet:
    """What is no time."""
    rates = run.rates
    closed = run.asked.rate is None
    rows = [
        ("jobs a second: offered", _UNKNOWN if closed else number(rates.offered)),
        ("jobs a second: sent", number(rates.sent)),
        ("jobs a second: done", number(rates.done)),
        ("seconds of audio a second", number(rates.audio_s)),
        ("jobs measured", f"{run.jobs:,}"),
        ("open when sending ended", f"{run.open_at_end:,}"),
        ("then drained in, s", number(run.drain_s)),
        ("clips on a tape, mean", number(run.clips_per_tape)),
        ("tape fill", share(run.mean("tape_fill"))),
        ("the device works, of the time", share(run.mean("device_busy"))),
        (f"this machine's {run.cores} cores are busy", share(run.mean("cpu"))),
        ("cores that local workers take", number(run.mean("worker_cores"))),
        ("cores that this program takes", number(run.mean("sender_cores"))),
        ("largest difference of a score from alone", _small(run.largest_score_difference)),
        ("clock error, ± ms", number(run.clock_error_ms)),
    ]
    return Sheet("The run", ("what", "value"), tuple(rows))


def latencies(run: Run) -> Sheet:
    """From the intended time of sending, and what else one might take for it."""
    rows = {
        "latency, as intended": run.latency,
        "from real sending": run.from_sending,
        "sent late by": run.late,
        "alone, one by one": run.alone,
    }
    return _times("Milliseconds", rows)


def stages(run: Run) -> Sheet:
    """Where the time goes."""
    return _times("Milliseconds in each stage", run.stages)


def against(before: Run, now: Run) -> Sheet:
    """Two runs side by side."""
    rows: list[tuple[str, ...]] = [
        ("verdict", before.verdict, now.verdict, ""),
        *(
            (name, told[0], told[1], "other")
            for name, told in _asked_differently(before, now).items()
        ),
    ]
    for name, (then, today) in _compared(before, now).items():
        ratio = f"× {today / then:.2f}" if then and today is not None else _UNKNOWN
        rows.append((name, number(then), number(today), ratio))
    return Sheet("Against the run before", ("what", "before", "now", "change"), tuple(rows))


def doubts_against(before: Run, now: Run) -> list[str]:
    """Why the two may not be compared."""
    found = [f"the run before is {before.verdict}"] if before.verdict != "valid" else []
    differences = _asked_differently(before, now)
    if differences:
        found.append(f"the runs differ in {', '.join(differences)}: they are no before and after")
    return found


def _asked_differently(before: Run, now: Run) -> dict[str, tuple[str, str]]:
    names = ("clips", "different", "rate", "arrivals", "concurrency", "warm_up_s", "lane")
    pairs = {name: (getattr(before.asked, name), getattr(now.asked, name)) for name in names}
    pairs["model"] = (before.service.model, now.service.model)
    pairs["cores"] = (before.cores, now.cores)
    return {
        name: (_plain(then), _plain(today))
        for name, (then, today) in pairs.items()
        if then != today
    }


def _compared(before: Run, now: Run) -> dict[str, tuple[float | None, float | None]]:
    pairs: dict[str, tuple[float | None, float | None]] = {
        "jobs a second, done": (before.rates.done, now.rates.done),
        "seconds of audio a second": (before.rates.audio_s, now.rates.audio_s),
    }
    for name in ("p50_ms", "p90_ms", "p99_ms", "most_ms"):
        told = name.removesuffix("_ms")
        pairs[f"latency, ms, {told}"] = (_of(before.latency, name), _of(now.latency, name))
    for stage in dict.fromkeys([*before.stages, *now.stages]):
        each = (_of(run.stages.get(stage), "p50_ms") for run in (before, now))
        pairs[f"{stage}, ms, p50"] = (next(each), next(each))
    pairs["clips on a tape, mean"] = (before.clips_per_tape, now.clips_per_tape)
    pairs["the device works"] = (before.mean("device_busy"), now.mean("device_busy"))
    pairs["cores busy, share"] = (before.mean("cpu"), now.mean("cpu"))
    return pairs


def _steps(kept: Kept) -> list[Sheet]:
    if kept.objective is None:
        return []
    rows = tuple((f"{rate:g}", "met" if met else "not met", why) for rate, met, why in kept.steps)
    title = f"The search for the highest rate with {kept.objective}"
    return [Sheet(title, ("jobs a second", "objective", "why"), rows)]


def _times(title: str, rows: dict[str, Times | None] | dict[str, Times]) -> Sheet:
    columns = ("what", "results", "mean", "p50", "p90", "p99", "most")
    return Sheet(title, columns, tuple(_row(name, times) for name, times in rows.items()))


def _row(name: str, times: Times | None) -> tuple[str, ...]:
    if times is None:
        return (name, "0", *[_UNKNOWN] * 5)
    told = (times.mean_ms, times.p50_ms, times.p90_ms, times.p99_ms, times.most_ms)
    return (name, f"{times.count:,}", *map(number, told))


def _of(times: Times | None, name: str) -> float | None:
    found: float | None = None if times is None else getattr(times, name)
    return found


def _plain(value: object) -> str:
    return _UNKNOWN if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _small(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.1e}"
