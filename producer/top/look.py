"""One look at everything: the lanes, what workers say of themselves, and what failed lately."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from producer.client import Client, Fleet, Worker
from storage.queue.lanes import Overview
from storage.queue.recent import End
from storage.wire.messages import Status

_EXAMPLES = 3
# What workers under one prefix must agree on, for the same audio to give the same scores.
_AGREED: dict[str, Callable[[Worker], str | None]] = {
    "version": lambda worker: worker.version or None,
    "model": lambda worker: worker.model or None,
    "revision": lambda worker: worker.revision or None,
    "dtype": lambda worker: worker.dtype or None,
}


@dataclass(frozen=True, slots=True)
class Cause:
    """Failures of the last thousand ends that have one error code; `newest` are some of their jobs.

    `dead` of them can be replayed; `waiting` more wait for a retry by it. `ago_seconds` is the age
    of the newest end, None where there is none yet.
    """

    code: str
    jobs: int
    dead: int
    waiting: int
    newest: Sequence[str]
    ago_seconds: float | None


@dataclass(frozen=True, slots=True)
class Together:
    """All workers as one; None where none of them tells it.

    Times and shares are means, of the jobs that ended and of the devices.
    """

    in_flight: int
    clips_a_second: float
    audio_seconds_a_second: float
    latency_ms: float | None
    queue_ms: float | None
    tape_fill: float | None
    device_share: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment. `ends` is how many ends the causes were looked for in."""

    lanes: Overview
    fleet: Fleet
    together: Together
    disagreements: Sequence[str]
    causes: Sequence[Cause]
    ends: int
    ends_seconds: float


class Looking:
    """Looks. Thread-safe as redis-py's client is."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lanes = client.operator.lanes
        self._retries, self._ends = client.operator.retries, client.operator.recent_ends

    def look(self) -> Snapshot:
        """Everything, by a few questions to Redis. Raises RedisError."""
        lanes, fleet, ends = self._lanes.look(), self._client.workers(), self._ends.look()
        return Snapshot(
            lanes=lanes,
            fleet=fleet,
            together=together(fleet.workers),
            disagreements=disagreements(fleet.workers),
            causes=causes(ends, self._retries.causes()),
            ends=len(ends),
            ends_seconds=max((end.ago_seconds for end in ends), default=0.0),
        )


def together(workers: Sequence[Worker]) -> Together:
    """All of them as one."""
    return Together(
        in_flight=sum(worker.in_flight or 0 for worker in workers),
        clips_a_second=sum(worker.clips_a_second or 0.0 for worker in workers),
        audio_seconds_a_second=sum(worker.audio_seconds_a_second or 0.0 for worker in workers),
        latency_ms=_mean(workers, lambda worker: worker.latency_ms, _ended),
        queue_ms=_mean(workers, lambda worker: worker.queue_ms, _ended),
        tape_fill=_mean(workers, lambda worker: worker.tape_fill, _worked),
        device_share=_mean(workers, lambda worker: worker.device_share, lambda _: 1.0),
    )


def disagreements(workers: Sequence[Worker]) -> list[str]:
    """What the workers do not agree on, a line each, with the most frequent value first."""
    settings = sorted({name for worker in workers for name in worker.settings})
    asked = _AGREED | {name: partial(_setting, name) for name in settings}
    found = []
    for name, value_of in asked.items():
        counts = Counter(value for worker in workers if (value := value_of(worker)) is not None)
        if len(counts) > 1:
            values = ", ".join(f"{value} ({count})" for value, count in counts.most_common())
            found.append(f"{name}: {values}")
    return found


def causes(ends: Sequence[End], waiting: Mapping[str, Sequence[str]]) -> list[Cause]:
    """What failures have in common, the most frequent first; `ends` are the newest first.

    `waiting` are jobs by the cause for which they are to be tried again.
    """
    failed: dict[str, list[End]] = {}
    for end in ends:
        if end.failed:
            failed.setdefault(end.error_code or end.status, []).append(end)
    for code in waiting:
        failed.setdefault(code, [])
    return [
        Cause(
            code,
            jobs=len(of_it),
            dead=sum(end.status == Status.DEAD for end in of_it),
            waiting=len(waiting.get(code, ())),
            newest=[end.job_id for end in of_it[:_EXAMPLES]] or waiting[code][:_EXAMPLES],
            ago_seconds=of_it[0].ago_seconds if of_it else None,
        )
        for code, of_it in sorted(failed.items(), key=lambda each: -len(each[1]))
    ]


def _setting(name: str, worker: Worker) -> str | None:
    return worker.settings.get(name)


def _ended(worker: Worker) -> float:
    return (worker.clips_a_second or 0.0) * (worker.period_seconds or 0.0)


def _worked(worker: Worker) -> float:
    return worker.device_share or 0.0


def _mean(
    workers: Sequence[Worker],
    value_of: Callable[[Worker], float | None],
    weight_of: Callable[[Worker], float],
) -> float | None:
    """Of those who tell it, by their weight; by none where nobody has any."""
    told = [
        (value, weight_of(worker)) for worker in workers if (value := value_of(worker)) is not None
    ]
    if not told:
        return None
    weight = sum(each for _, each in told)
    if not weight:
        return sum(value for value, _ in told) / len(told)
    return sum(value * each for value, each in told) / weight
