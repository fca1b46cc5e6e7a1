"""All of `python -m producer stress`, from what was asked for to what is told."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from producer.client import Lane
from producer.stress.alone import Alone, StressFailed, take_alone
from producer.stress.cancels import Cancels
from producer.stress.clips import Lengths
from producer.stress.page import page as as_page
from producer.stress.report import Asked, Kept, Run, Step, as_json, as_object, read_run
from producer.stress.schedule import Arrivals
from producer.stress.search import (
    Hopeless,
    Objective,
    best,
    find_most,
    parse_objective,
)
from producer.stress.session import Session, Target
from producer.stress.show import (
    Sheet,
    against,
    described,
    doubts_against,
    headline,
    served,
    sheets,
)
from producer.stress.uploads import placed
from storage.objects.store import ManagedStore

__all__ = ["Plan", "Target", "as_json", "as_object", "as_page", "read_run", "stress"]


MOST_JOBS = 1_000_000  # half a gigabyte of them


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for; `source` is a distribution, or a directory. `rate` is where to begin."""

    source: Lengths | str
    asked: Asked
    lane: Lane
    objective: Objective | None = None

    @classmethod
    def of(
        cls,
        source: Lengths | str,
        *,
        rate: float | None,
        arrivals: Arrivals,
        concurrency: int | None,
        duration_s: float,
        warm_up_s: float,
        seed: int,
        different: int,
        lane: Lane,
        objective: str | None,
        search: bool,
    ) -> "Plan":
        """Raises ValueError for what does not go together."""
        if search != (objective is not None):
            raise ValueError("--find-max and --slo go together")
        if search and concurrency is not None:
            raise ValueError("--find-max looks for a rate: leave out --concurrency")
        if not search and (rate is None) == (concurrency is None):
            raise ValueError("name the load: --rate R or --concurrency C")
        if duration_s <= 0:
            raise ValueError("--duration: must be more than 0")
        planned = (rate or 0.0) * (warm_up_s + duration_s)
        if not planned <= MOST_JOBS:
            raise ValueError(f"--rate: {planned:,.0f} jobs in one run; {MOST_JOBS:,} are the most")
        asked = Asked(
            clips=source.value if isinstance(source, Lengths) else "files",
            different=different,
            duration_s=duration_s,
            warm_up_s=warm_up_s,
            seed=seed,
            lane=lane.value,
            rate=rate,
            arrivals=None if concurrency else arrivals.value,
            concurrency=concurrency,
        )
        return cls(source, asked, lane, None if objective is None else parse_objective(objective))


def stress(
    plan: Plan,
    target: Target,
    *,
    store: ManagedStore | None,
    store_url: str,
    say: Callable[[str], None],
) -> Kept:
    """Upload, take each clip alone, run, and remove. Raises StressFailed, RedisError, JobError.

    What becomes of jobs at a Ctrl-C is said, and of uploads, where they stay.
    """
    cancels = Cancels(target.client, say=say)
    try:
        return _stress(plan, target, cancels, store=store, store_url=store_url, say=say)
    except KeyboardInterrupt:
        say(f"stopped: {cancels.outcome}")
        raise


def _stress(
    plan: Plan,
    target: Target,
    cancels: Cancels,
    *,
    store: ManagedStore | None,
    store_url: str,
    say: Callable[[str], None],
) -> Kept:
    asked = plan.asked
    with placed(
        plan.source,
        different=asked.different,
        seed=asked.seed,
        store=store,
        store_url=store_url,
        needed=lambda: cancels.open > 0,
    ) as clips:
        asked = replace(asked, different=len(clips))
        say(f"{len(clips)} clips, each alone")
        alone = list(
            take_alone(
                target.client,
                clips,
                plan.lane,
                cancels=cancels,
                prefix=target.prefix,
                timeout_seconds=target.drain_seconds,
            )
        )
        with Session(target, alone, cancels=cancels, say=say) as session:
            if plan.objective is None:
                say(described(asked))
                return Kept(session.run(asked))
            return _search(session, asked, plan.objective, alone, say)


def _search(
    session: Session,
    asked: Asked,
    objective: Objective,
    alone: list[Alone],
    say: Callable[[str], None],
) -> Kept:
    def attempt(rate: float) -> Step:
        seconds = max(asked.duration_s, objective.seconds(rate))
        run = session.run(
            replace(asked, rate=rate, duration_s=round(seconds, 1)), hopeless=Hopeless(objective)
        )
        met, why = objective.judge(run)
        say(f"{rate:g} jobs a second: {'met' if met else 'not met'}, {why}")
        return Step(rate, met, why, run)

    first = asked.rate or float(f"{1000 * len(alone) / sum(x.took_ms for x in alone):.3g}")
    steps = find_most(attempt, first)
    found = best(steps)
    broken = next((step for step in steps if step.run.failed), None)
    if found is None and broken is None:
        raise StressFailed(f"no rate kept {objective}: {steps[-1].rate:g} a second was the lowest")
    told: Run = (broken or found or steps[-1]).run
    tried = tuple((step.rate, step.met, step.why) for step in steps)
    return Kept(told, objective=str(objective), steps=tried)


def tables(kept: Kept, before: Run | None) -> list[Sheet]:
    """What is shown in a terminal."""
    return [*sheets(kept), *([] if before is None else [against(before, kept.run)])]


def closing(kept: Kept, before: Run | None) -> list[str]:
    """What is said at the end: the verdict is the last that is read."""
    run = kept.run
    doubts = [] if before is None else doubts_against(before, run)
    found = [described(run.asked), served(run), *(f"note: {x}" for x in (*run.notes, *doubts))]
    if kept.objective is not None and not run.failed:
        found.append(f"highest rate with {kept.objective}: {run.asked.rate:g} jobs a second")
    return [*found, *headline(run)]


def require_writable(path: Path | None) -> None:
    """Raise OSError now for a file that could not be written after the run."""
    if path is None:
        return
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OSError(f"{path}: cannot be written")
