"""Enqueuing jobs once."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from storage.errors import InvalidJob
from storage.queue.entries import Ends
from storage.queue.following import Following
from storage.queue.steps import Call, Calls, Driver, Give, Pause, Steps
from storage.redis.connection import RedisError
from storage.wire.messages import Job, Keys, Lane, Status

PIPELINED = 200  # jobs that are sent at once
_FULL_SECONDS = 0.5  # Redis tells nobody that a lane got shorter


class BacklogFull(Exception):
    """The lanes hold as many jobs as `EMO_MAX_BACKLOG` allows."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission: enqueued now, or known already with this status in its hash."""

    job_id: str
    status: str
    enqueued: bool


class Submitting:
    """Submits jobs."""

    def __init__(self, keys: Keys, max_backlog: int, ends: Ends) -> None:
        self._keys = keys
        self._max_backlog = max_backlog
        self._kept = [keys.prefix, *ends.limits]

    def submit(self, job: Job, lane: Lane) -> Steps[Submitted]:
        """Enqueue a job once: repeating it is safe. Raises BacklogFull, InvalidJob.

        Under the id of an entry only a job that is known may be sent, to be run again.
        """
        return self._judge(job, (yield self._call(job, lane)))

    def submit_many(self, jobs: Iterable[Job], lane: Lane, *, wait: bool = True) -> Steps[None]:
        """Enqueue jobs, many in one round trip, and give what became of each, in their order.

        Where the lanes are full it waits, or raises BacklogFull where not told to. What is
        confirmed is given before anything is raised.
        """
        left = iter(jobs)
        while chunk := list(islice(left, PIPELINED)):
            became: dict[int, Submitted] = {}
            still = dict(enumerate(chunk))
            fault: Exception | None = None
            while still and fault is None:
                try:
                    replies = yield Calls([self._call(job, lane) for job in still.values()])
                except RedisError as error:
                    fault = error
                    break
                for (number, job), reply in zip(list(still.items()), replies, strict=True):
                    try:
                        became[number] = self._judge(job, reply)
                    except BacklogFull as error:
                        fault = fault or (None if wait else error)
                    except (InvalidJob, RedisError) as error:
                        fault = error if fault is None or isinstance(fault, BacklogFull) else fault
                    else:
                        del still[number]
                if still and fault is None:
                    yield Pause(_FULL_SECONDS)
            for number in sorted(became):
                yield Give(became[number])
            if fault is not None:
                raise fault

    def _call(self, job: Job, lane: Lane) -> Call:
        head = [*self._kept, job.id, lane.value, self._max_backlog]
        fields = [text for pair in job.fields().items() for text in pair]
        return Call("submit", self._keys.lanes, [*head, *fields])

    def _judge(self, job: Job, reply: Any) -> Submitted:
        if isinstance(reply, RedisError):
            raise reply
        verdict, detail = reply
        if verdict == b"FULL":
            raise BacklogFull(f"{detail} jobs are waiting; EMO_MAX_BACKLOG={self._max_backlog}")
        if verdict == b"FOREIGN":
            raise InvalidJob(
                f"job {job.id}: is the id of an entry, and no job of that id has ended; "
                "choose another"
            )
        if verdict == b"EXISTS":
            return Submitted(job.id, detail.decode("utf-8", "replace"), enqueued=False)
        return Submitted(job.id, Status.QUEUED, enqueued=True)


class Submissions:
    """Submit jobs and look at them, on this thread. Thread-safe as redis-py's client is."""

    def __init__(
        self, client: redis.Redis, *, keys: Keys, max_backlog: int, ends: Ends | None = None
    ) -> None:
        self._driver = Driver(client)
        self._submitting = Submitting(keys, max_backlog, ends or Ends())
        self._following = Following(keys)

    def submit(self, job: Job, lane: Lane) -> Submitted:
        """See `Submitting.submit`."""
        return self._driver.run(self._submitting.submit(job, lane))

    def status(self, job_id: str) -> dict[str, str] | None:
        """See `Following.status`."""
        return self._driver.run(self._following.status(job_id))

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        timeout_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """See `Following.wait`."""
        return self._driver.iterate(
            self._following.wait(job_ids, timeout_seconds=timeout_seconds, clock=clock)
        )
