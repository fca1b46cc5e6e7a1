"""Whether the service did what it promises: one end for each job, and the scores it has alone."""

from collections import Counter
from collections.abc import Sequence

from producer.client import Result, UnreadableResult
from producer.stress.alone import Alone
from producer.stress.feed import Shot

FLOAT32_TOLERANCE, HALF_TOLERANCE = 1e-5, 0.01
_SHOWN = 3


class Faults:
    """Faults by what they are, with a few jobs that have them."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, job_id: str) -> None:
        """Note one."""
        self._found.setdefault(what, []).append(job_id)

    def lines(self) -> tuple[str, ...]:
        """A line for each kind."""
        return tuple(
            f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {what} ({', '.join(jobs[:_SHOWN])}"
            f"{', …' if len(jobs) > _SHOWN else ''})"
            for what, jobs in self._found.items()
        )


def check(shots: Sequence[Shot], alone: Sequence[Alone]) -> tuple[tuple[str, ...], float | None]:
    """What is wrong with jobs that were sent, and the largest difference of a score from alone."""
    faults, largest = Faults(), 0.0
    compared = False
    for shot in shots:
        if shot.sent is None or shot.refused:
            continue
        for fault in _ends(shot):
            faults.add(fault, shot.job_id)
        if shot.result is None or not shot.result.done:
            continue
        try:
            difference, fault = _scores(shot.result, alone[shot.clip].result)
        except UnreadableResult as error:
            fault, difference = str(error).partition(": ")[2], 0.0
        compared, largest = True, max(largest, difference)
        if fault:
            faults.add(fault, shot.job_id)
    return faults.lines(), largest if compared else None


def _ends(shot: Shot) -> list[str]:
    """What is wrong with how it ended."""
    result = shot.result
    if result is None:
        ended = "its result was gone before it was read: raise EMO_RESULT_TTL_SECONDS"
        return [ended if shot.ends else "Redis knows nothing of it: was it emptied?"]
    if not result.ended:
        return [f"no end, it is {result.status}"]
    faults = []
    if not result.done:
        why = f", {result.error.code}" if result.error else ""
        faults.append(f"ended as {result.status}{why}")
    if not shot.ends:
        faults.append("ended, and no event told it: is EMO_RESULTS_MAXLEN too small?")
    if len(shot.ends) > 1:
        faults.append(f"{len(shot.ends)} ends")
    elif result.run > 1:
        faults.append("ran again after its end")
    return faults


def _scores(result: Result, alone: Result) -> tuple[float, str]:
    """The largest difference, and what is wrong with it."""
    for name in ("model", "model_revision"):
        ours, theirs = (each.fields.get(name, "") for each in (result, alone))
        if ours != theirs:
            return 0.0, f"{name} {ours}, and alone {theirs}: workers differ"
    scores, expected = result.scores, alone.scores
    if scores.keys() != expected.keys() or not scores:
        return 0.0, "other labels than alone"
    difference = max(abs(scores[label] - expected[label]) for label in scores)
    exact = all(each.fields.get("dtype") == "float32" for each in (result, alone))
    tolerance = FLOAT32_TOLERANCE if exact else HALF_TOLERANCE
    # Scores are told to six digits: what is within the tolerance must not fail by the last of them.
    if difference > tolerance + 1e-9:
        dtype = result.fields.get("dtype", "")
        return difference, f"scores differ from those alone by more than {tolerance:g} in {dtype}"
    return difference, ""


def statuses(shots: Sequence[Shot]) -> Counter[str]:
    """How many jobs came to which end."""
    return Counter(shot.result.status.value for shot in shots if shot.result is not None)
