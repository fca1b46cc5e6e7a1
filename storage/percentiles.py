"""Percentiles, with the rule that none is told of which too few results say anything.

From 64 results on, two at least lie beyond the true p90 in 99 of 100 cases; from 459 on, one at
least lies beyond the true p99. Of fewer, a "p99" is the slowest result under another name.
"""

from collections.abc import Sequence

MEDIAN, P90, P99 = 0.5, 0.9, 0.99
LEAST_RESULTS = {MEDIAN: 1, P90: 64, P99: 459}


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of them do not exceed, in their unit; None where they are too few.

    `share` is one of LEAST_RESULTS, `values` are in any order. Between two values the line between
    them counts, as for numpy's `quantile`.
    """
    if len(values) < LEAST_RESULTS[share]:
        return None
    return _value_at(sorted(values), share)


def curve(values: Sequence[float], points: int = 100) -> list[tuple[float, float]]:
    """(share, value) from the least up to the highest percentile that the results allow."""
    ordered = sorted(values)
    most = max((share for share, least in LEAST_RESULTS.items() if len(values) >= least), default=0)
    shares = [most * point / points for point in range(points + 1)] if most else []
    return [(round(share, 6), _value_at(ordered, share)) for share in shares]


def _value_at(ordered: Sequence[float], share: float) -> float:
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
