"""When jobs are to be sent, and of which clip: drawn before the run, from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count


class Arrivals(StrEnum):
    """How the times between jobs are spread: as of many callers who know nothing of each other.

    Or as of one clock.
    """

    POISSON = "poisson"
    CONSTANT = "constant"


@dataclass(frozen=True, slots=True)
class Planned:
    """One job: seconds from the start of the run, and the number of its clip."""

    at_seconds: float
    clip: int


def draw(
    arrivals: Arrivals, *, rate: float, seconds: float, clips: int, seed: int
) -> list[Planned]:
    """`rate` jobs a second for so many seconds, in order; a seed gives the same."""
    planned: list[Planned] = []
    choices = clip_choices(clips, seed)
    for at_seconds in _times(arrivals, rate, seed):
        if at_seconds >= seconds:
            return planned
        planned.append(Planned(at_seconds, next(choices)))
    return planned


def clip_choices(clips: int, seed: int) -> Iterator[int]:
    """Numbers of clips, for ever: each as likely as the others; a seed gives the same."""
    drawn = random.Random(f"clips-{seed}")
    while True:
        yield drawn.randrange(clips)


def _times(arrivals: Arrivals, rate: float, seed: int) -> Iterator[float]:
    if arrivals is Arrivals.CONSTANT:
        yield from (number / rate for number in count())
    drawn, at_seconds = random.Random(f"times-{seed}"), 0.0
    while True:
        at_seconds += drawn.expovariate(rate)
        yield at_seconds
