"""The highest rate that keeps an objective, by doubling and bisecting."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from producer.stress.feed import Shot
from producer.stress.figures import LEAST_SENT
from producer.stress.report import Run, Step
from storage.percentiles import LEAST_RESULTS, MEDIAN, P90, P99

_SHARES = {"p50": MEDIAN, "p90": P90, "p99": P99}
_OBJECTIVE = re.compile(r"(p50|p90|p99)\s*<=?\s*(\d+(?:\.\d+)?)\s*(ms|s)")
CLOSE_ENOUGH = 1.1  # the highest rate that met it, and the lowest that did not
_MOST_STEPS = 14
_SLOWEST_RATE = 0.01
_HEARD_SECONDS = 0.25  # after its end, an event may take as long to be heard of
# A Poisson schedule holds fewer jobs than its rate says once in a while: four deviations.
_DEVIATIONS = 4


@dataclass(frozen=True, slots=True)
class Objective:
    """A percentile of latency, and what it must stay below."""

    name: str
    limit_ms: float

    @property
    def share(self) -> float:
        """Of the results, that must be below."""
        return _SHARES[self.name]

    def __str__(self) -> str:
        return f"{self.name}<{self.limit_ms:g}ms"

    def seconds(self, rate: float) -> float:
        """How long a run at that rate must be, to have results enough."""
        least = LEAST_RESULTS[self.share]
        return (least + _DEVIATIONS * math.sqrt(least)) / rate

    def judge(self, run: Run) -> tuple[bool, str]:
        """Whether a run kept it, and in words how."""
        if run.stopped_early:
            return False, f"more than {1 - self.share:.0%} were above {self.limit_ms:g} ms already"
        if run.rates.sent < LEAST_SENT * run.rates.offered:
            return False, "the sender could not keep that rate: it is not the service's limit"
        found = None if run.latency is None else getattr(run.latency, f"{self.name}_ms")
        if found is None:
            return False, f"too few results for a {self.name}"
        return found < self.limit_ms, f"{self.name} {found:,.0f} ms"


class Hopeless:
    """Whether so many jobs of one run are late that the objective cannot be met any more."""

    def __init__(self, objective: Objective) -> None:
        self._limit_seconds = objective.limit_ms / 1000
        self._share = objective.share
        self._next = self._late = 0

    def __call__(self, shots: Sequence[Shot], now: float) -> bool:
        """Each shot is looked at once, when its time has come; they are in order."""
        overdue = now - self._limit_seconds - _HEARD_SECONDS
        while self._next < len(shots) and shots[self._next].intended < overdue:
            shot = shots[self._next]
            self._late += shot.measured and not shot.ends
            self._next += 1
        return self._late > (1 - self._share) * sum(shot.measured for shot in shots)


def parse_objective(text: str) -> Objective:
    """`p99<2s`, `p90<500ms`. Raises ValueError."""
    found = _OBJECTIVE.fullmatch(text.strip())
    if found is None or not float(found[2]):
        raise ValueError(f"{text!r}: write it as p99<2s, with p50, p90 or p99, and ms or s")
    return Objective(found[1], float(found[2]) * (1000 if found[3] == "s" else 1))


def find_most(attempt: Callable[[float], Step], first: float) -> list[Step]:
    """All steps, in their order. `attempt` runs at a rate; a run that failed ends the search."""
    steps: list[Step] = []
    met, missed = 0.0, math.inf
    rate = first
    while len(steps) < _MOST_STEPS and missed > CLOSE_ENOUGH * met and rate >= _SLOWEST_RATE:
        steps.append(attempt(rate))
        if steps[-1].run.failed:
            break
        if steps[-1].met:
            met = rate
        else:
            missed = rate
        if not met:
            rate = missed / 2
        elif math.isinf(missed):
            rate = 2 * met
        else:
            rate = math.sqrt(met * missed)
        rate = float(f"{rate:.3g}")
    return steps


def best(steps: Sequence[Step]) -> Step | None:
    """The one with the highest rate of those that met it."""
    return max((step for step in steps if step.met), key=lambda step: step.rate, default=None)
