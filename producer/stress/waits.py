"""When every sender waited for Redis: what was due then could not be sent, on any machine."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

Stretch = tuple[float, float]  # from when to when, times of `time.monotonic`


def all_taken(submissions: Sequence[Stretch], senders: int) -> list[Stretch]:
    """The stretches, in order, in which each of so many senders was in a submission."""
    # Where one ends as another begins, the end comes first: a sender was free.
    changes = sorted(
        [(begin, 1) for begin, _ in submissions] + [(end, -1) for _, end in submissions]
    )
    found: list[Stretch] = []
    under_way, since = 0, 0.0
    for at, change in changes:
        if under_way == senders and change < 0 and at > since:
            found.append((since, at))
        under_way, since = under_way + change, at
    return found


class Within:
    """How much of some time lies in stretches, which are in order and apart."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._begins = [begin for begin, _ in stretches]
        self._stretches = stretches
        self._before = [0.0, *accumulate(end - begin for begin, end in stretches)]

    def __call__(self, begin: float, end: float) -> float:
        """Seconds of it."""
        return self._until(end) - self._until(begin)

    def _until(self, moment: float) -> float:
        number = bisect_right(self._begins, moment)
        if not number:
            return 0.0
        begin, end = self._stretches[number - 1]
        return self._before[number - 1] + min(moment, end) - begin
