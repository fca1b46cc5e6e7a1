"""Redis' clock against ours: results hold times of that one, schedules hold times of this one."""

import time
from collections.abc import Callable
from dataclasses import dataclass

LOOKS = 32
_HALF_A_MILLISECOND = 0.0005  # results hold whole ones, cut off


@dataclass(frozen=True, slots=True)
class Reading:
    """What has to be added to `at`, a time of ours, to have Redis' unix time; in seconds.

    Half of the round trip that told it is how far off it may be.
    """

    at: float
    offset: float
    error: float


@dataclass(frozen=True, slots=True)
class Clocks:
    """Two readings, before and after: between them, and outside, the line through both counts."""

    before: Reading
    after: Reading

    @property
    def error_seconds(self) -> float:
        """How far off a latency may be, by the clocks alone."""
        return max(self.before.error, self.after.error) + _HALF_A_MILLISECOND

    @property
    def drift_seconds(self) -> float:
        """How much Redis' clock gained on ours meanwhile."""
        return self.after.offset - self.before.offset

    def ours(self, unix_ms: int) -> float:
        """The moment by our clock at which Redis' clock cut a time down to these milliseconds."""
        unix = unix_ms / 1000 + _HALF_A_MILLISECOND
        span = self.after.at - self.before.at
        share = (unix - self.before.offset - self.before.at) / span if span else 0.0
        return unix - self.before.offset - share * self.drift_seconds


def read_offset(
    ask: Callable[[], tuple[int, int]],
    *,
    looks: int = LOOKS,
    clock: Callable[[], float] = time.monotonic,
) -> Reading:
    """The best of so many looks, that with the shortest round trip.

    `ask` gives the seconds and microseconds of TIME. Raises RedisError.
    """
    readings = []
    for _ in range(looks):
        asked = clock()
        seconds, microseconds = ask()
        answered = clock()
        middle = (asked + answered) / 2
        offset = seconds + microseconds / 1e6 - middle
        readings.append(Reading(middle, offset, (answered - asked) / 2))
    return min(readings, key=lambda reading: reading.error)
