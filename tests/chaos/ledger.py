"""Enqueues a plan's jobs at their times, and keeps the book that is checked at the end."""

import heapq
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from redis.exceptions import RedisError, ResponseError

from storage.queue.cancellation import Cancellations, Verdict
from storage.queue.reader import MAX_ENTRY_BYTES
from storage.queue.submission import Submissions
from storage.redis.bounds import MAX_REPLY_BYTES
from storage.redis.connection import connect
from storage.wire.messages import Job, Lane
from tests.chaos.arena import RESULT_TTL_SECONDS, RESULTS_MAXLEN, Arena
from tests.chaos.kinds import Kind
from tests.chaos.plan import PlannedJob, Way, callback_of

_BACKLOG = 1_000_000
_AGAIN_SECONDS = 0.02
_INSIST_SECONDS = 60.0  # no outage of a plan is that long


@dataclass(slots=True)
class Entry:
    """One job in the book."""

    planned: PlannedJob
    cancelled: Verdict | None = None  # what the one who cancelled it was told


@dataclass
class Ledger:
    """What was enqueued, by job id."""

    entries: dict[str, Entry] = field(default_factory=dict)
    # Plain XADDs that a dying server did not answer: each may have been done, or not.
    unanswered: list[PlannedJob] = field(default_factory=list)


class Enqueuer:
    """A producer on a thread of its own; it outlives every outage."""

    def __init__(self, arena: Arena, jobs: tuple[PlannedJob, ...]) -> None:
        self.ledger = Ledger()
        self.failure: Exception | None = None
        self._arena = arena
        # Any: redis-py types a reply as every possible one.
        self._client: Any = connect(arena.redis.url, name="chaos-enqueuer")
        self._submissions = Submissions(self._client, keys=arena.keys, max_backlog=_BACKLOG)
        self._cancellations = Cancellations(
            self._client,
            keys=arena.keys,
            result_ttl_seconds=RESULT_TTL_SECONDS,
            results_maxlen=RESULTS_MAXLEN,
        )
        # (when, order, what): a job may be followed by its repetition, or its cancellation.
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        for job in jobs:
            self._plan(job.at_seconds, partial(self._enqueue, job))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="enqueuer", daemon=True)

    def start(self) -> None:
        """Start with the first job."""
        self._started = time.monotonic()
        self._thread.start()

    def join(self) -> Ledger:
        """The book, once all is enqueued. Raises what went wrong."""
        self._thread.join()
        self._client.close()
        if self.failure:
            raise self.failure
        return self.ledger

    def stop(self) -> None:
        """Enqueue nothing more."""
        self._closing.set()
        self._thread.join()

    def _plan(self, at_seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at_seconds, self._order, act))
        self._order += 1

    def _run(self) -> None:
        try:
            while self._due:
                at_seconds, _, act = heapq.heappop(self._due)
                wait_seconds = self._started + at_seconds - time.monotonic()
                if self._closing.wait(max(0.0, wait_seconds)):
                    return
                act()
        except Exception as error:
            self.failure = error

    def _enqueue(self, job: PlannedJob) -> None:
        elapsed = time.monotonic() - self._started
        deadline_ms = None
        if job.deadline_seconds is not None:
            deadline_ms = round((time.time() + job.deadline_seconds) * 1000)
        name = f"chaos-{job.number}"
        match job.way:
            case Way.XADD:
                self._xadd(job, deadline_ms)
                return
            case Way.NAMED_XADD:
                # Safe to repeat: whoever begins the second entry finds the job, and drops it.
                fields = self._fields(job, deadline_ms) | {"job": name}
                self._insist(lambda: self._client.xadd(self._lane(job), fields))
            case Way.SUBMIT | Way.SUBMIT_TWICE:
                if job.kind is Kind.INVALID:  # submit sends no such thing
                    fields = self._fields(job, deadline_ms) | {"job": name}
                    self._insist(lambda: self._client.xadd(self._lane(job), fields))
                else:
                    sent = Job(
                        name,
                        job.key,
                        deadline_ms=deadline_ms,
                        callback=callback_of(job),
                        batch=job.batch,
                    )
                    self._submit(sent, job.lane)
                    if job.again_seconds is not None:
                        self._plan(
                            elapsed + job.again_seconds, lambda: self._submit(sent, job.lane)
                        )
        self.ledger.entries[name] = entry = Entry(job)
        if job.cancel_seconds is not None:
            self._plan(elapsed + job.cancel_seconds, lambda: self._cancel(name, entry))

    def _xadd(self, job: PlannedJob, deadline_ms: int | None) -> None:
        """Plain XADD, which is never repeated once it may have been done."""
        while True:
            try:
                added = self._client.xadd(self._lane(job), self._fields(job, deadline_ms))
            except ResponseError:
                self._closing.wait(_AGAIN_SECONDS)  # refused: loading, or out of memory
            except RedisError:
                self.ledger.unanswered.append(job)
                self._arena.answering()
                return
            else:
                prefix = "" if job.lane is Lane.NORMAL else f"{job.lane}-"
                self.ledger.entries[prefix + added.decode()] = Entry(job)
                return

    def _submit(self, job: Job, lane: Lane) -> None:
        self._insist(lambda: self._submissions.submit(job, lane))

    def _cancel(self, name: str, entry: Entry) -> None:
        """Cancel, and again where the answer was lost: the last answer tells only what is now."""
        answers: list[Verdict] = []
        tries = self._insist(lambda: answers.append(self._cancellations.cancel(name).verdict))
        entry.cancelled = answers[-1] if tries == 1 else None

    def _insist(self, act: Callable[[], object]) -> int:
        """Do it until it is done; returns how often it was tried."""
        tries, last = 0, time.monotonic() + _INSIST_SECONDS
        while True:
            tries += 1
            try:
                act()
            except RedisError:
                if self._closing.wait(_AGAIN_SECONDS) or time.monotonic() > last:
                    raise
            else:
                return tries

    def _lane(self, job: PlannedJob) -> str:
        return self._arena.keys.lane(job.lane)

    @staticmethod
    def _fields(job: PlannedJob, deadline_ms: int | None) -> dict[str, str]:
        fields = {"key": job.key}
        if job.batch:
            fields["batch"] = job.batch
        if callback := callback_of(job):
            fields["callback"] = callback
        if deadline_ms is not None:
            fields["deadline_ms"] = str(deadline_ms)
        if job.kind is Kind.INVALID:
            fields["want"] = "feelings"
        if job.kind is Kind.OVERSIZED:
            # Of one kind the reply is refused, the other is read and found to be too large.
            size = MAX_REPLY_BYTES if job.number % 2 else MAX_ENTRY_BYTES
            fields["big"] = "x" * (size + 1)
        return fields
