"""Batches: jobs that are counted together, and the one event when all of them have ended.

The counts are changed by the scripts that begin and end jobs: see docs/batches.md.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from storage.queue.entries import Ends
from storage.queue.following import fields_as_text
from storage.queue.steps import Call, Command, Give, Steps
from storage.redis.connection import ReplyTooLarge, stream_entries
from storage.wire.messages import Keys, Status, require_id

_SWEEP_MS = 1000  # events are a hint: the hash is read again anyway
_MOST_EVENTS = 1000
_MOST_OPEN, _AT_ONCE = 10_000, 500  # a script of so many takes milliseconds


class BatchStatus(StrEnum):
    """Where a batch is."""

    OPEN = "open"  # nobody has said how many jobs it is to have
    SEALED = "sealed"
    COMPLETE = "complete"  # all of them have ended; a job that runs again begins its next run


class WrongTotal(ValueError):
    """A batch cannot be sealed with that total; the message says why."""


class BatchGone(LookupError):
    """A batch that somebody waits for has expired, or was deleted, before it was complete."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """What a batch has counted. Times are unix milliseconds, by the clock of Redis."""

    id: str
    status: BatchStatus
    run: int
    total: int | None
    jobs: int
    ends: Mapping[Status, int]
    repeated: int
    created_at_ms: int | None = None
    completed_at_ms: int | None = None
    cancel_at_ms: int | None = None

    @property
    def open(self) -> int:
        """Jobs that are known, and have not ended."""
        return self.jobs - sum(self.ends.values())

    @property
    def complete(self) -> bool:
        """Whether all of it has ended."""
        return self.status is BatchStatus.COMPLETE

    @property
    def failed(self) -> int:
        """Jobs that ended as failed, dead or expired."""
        return sum(self.ends[each] for each in (Status.FAILED, Status.DEAD, Status.EXPIRED))


@dataclass(frozen=True, slots=True)
class Failure:
    """A job of a batch that failed."""

    job_id: str
    status: str
    error_code: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Batches that are not complete, and the jobs of both kinds that are known and not ended.

    `unread` more are in none of the counts.
    """

    open: int
    sealed: int
    jobs: int
    unread: int


class Batching:
    """Looks at batches, seals and cancels them."""

    def __init__(self, keys: Keys, ends: Ends) -> None:
        self._keys = keys
        self._settling = ends.settling(keys)

    def state(self, batch: str) -> Steps[BatchState | None]:
        """Its counts; None for a batch that nobody knows, or that has expired."""
        raw = yield Command(("HGETALL", self._keys.batch(batch)))
        return _state(batch, fields_as_text(raw)) if b"status" in raw else None

    def seal(self, batch: str, total: int) -> Steps[BatchState]:
        """Say how many jobs and repeats it is to have. It can be repeated. Raises WrongTotal."""
        if total < 0:
            raise WrongTotal(f"batch {batch}: {total} is no number of jobs")
        args = [*self._settling, batch, total]
        verdict, known = yield Call("seal", [self._keys.batch(batch)], args)
        if verdict == b"TOO_FEW":
            raise WrongTotal(f"batch {batch}: has {known} jobs and repeats already, not {total}")
        if verdict == b"ENDED":
            raise WrongTotal(f"batch {batch}: is complete with a total of {known}, not {total}")
        state = yield from self.state(batch)
        # It may have expired between the two.
        return state or _state(batch, {"status": "complete", "total": str(total)})

    def cancel(self, batch: str) -> Steps[int | None]:
        """Have its jobs cancelled, wherever they are met; returns how many have not ended.

        None where it is complete. Jobs that come later are cancelled too, until it is.
        """
        args = [self._keys.prefix, batch]
        verdict, still_open = yield Call("halt", [self._keys.batch(batch)], args)
        return int(still_open) if verdict == b"MARKED" else None

    def failures(self, batch: str, limit: int) -> Steps[list[Failure]]:
        """Its jobs that failed, the newest first; no more than a thousand are kept."""
        listed = yield Command(("LRANGE", self._keys.failures(batch), 0, limit - 1))
        words = [line.decode("utf-8", "replace").split(" ") for line in listed]
        return [Failure(*each) for each in words if len(each) == len(Failure.__slots__)]

    def unfinished(self, most: int = _MOST_OPEN) -> Steps[Unfinished]:
        """How many there are now; at most so many are looked at, some at a time."""
        index = self._keys.open_batches
        if (yield Command(("TYPE", index))) != b"zset":  # there are none, or it is no index
            return Unfinished(0, 0, 0, 0)
        seconds, _ = yield Command(("TIME",))
        living = (f"({int(seconds) * 1000}", "+inf")
        words = ("ZREVRANGEBYSCORE", index, *reversed(living), "LIMIT", 0, most)
        ids = [batch.decode("utf-8", "replace") for batch in (yield Command(words))]
        count = len(ids) if len(ids) < most else int((yield Command(("ZCOUNT", index, *living))))
        opened = sealed = jobs = 0
        for first in range(0, len(ids), _AT_ONCE):
            args = [self._keys.prefix, *ids[first : first + _AT_ONCE]]
            counts = yield Call("unfinished", [index], args)
            opened, sealed, jobs = opened + counts[0], sealed + counts[1], jobs + counts[2]
        return Unfinished(opened, sealed, jobs, count - len(ids))

    def ended(self, after: str | None) -> Steps[tuple[str, list[BatchState]]]:
        """Those that became complete after that event, the first thousand, and the last event.

        From now on where there is no event to begin with.
        """
        if after is None:
            newest = yield Command(("XREVRANGE", self._keys.batches, "+", "-", "COUNT", 1))
            return (newest[0][0].decode() if newest else "0-0"), []
        words = ("XRANGE", self._keys.batches, f"({after}", "+", "COUNT", _MOST_EVENTS)
        try:
            found = yield Command(words)
        except ReplyTooLarge as error:  # of somebody who writes events by hand
            return (error.first.decode() if error.first else after), []
        told = [fields_as_text(fields) for _, fields in found]
        ended = [
            _state(each["batch"], each)
            for each in told
            if each.get("event") == "complete" and "batch" in each
        ]
        return (found[-1][0].decode() if found else after), ended

    def wait(
        self,
        batch: str,
        *,
        timeout_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Steps[None]:
        """Give its state whenever that has changed, until it is complete.

        One that nobody knows yet is waited for. Raises TimeoutError, BatchGone.
        """
        deadline = None if timeout_seconds is None else clock() + timeout_seconds
        newest = yield Command(("XREVRANGE", self._keys.batches, "+", "-", "COUNT", 1))
        last = newest[0][0] if newest else b"0-0"
        told: BatchState | None = None
        while True:
            state = yield from self.state(batch)
            if state is not None and state != told:
                yield Give(state)
                told = state
            if state is not None and state.complete:
                return
            if state is None and told is not None:
                raise gone(batch)
            left_ms = _SWEEP_MS if deadline is None else round(1000 * (deadline - clock()))
            if left_ms <= 0:
                raise TimeoutError(f"batch {batch} is not complete yet")
            how = ("COUNT", _MOST_EVENTS, "BLOCK", min(_SWEEP_MS, left_ms))
            reply = yield Command(("XREAD", *how, "STREAMS", self._keys.batches, last))
            for _, (entry, _) in stream_entries(reply):
                last = entry


def gone(batch: str) -> BatchGone:
    """What to raise where there is nothing more of a batch that was waited for."""
    return BatchGone(f"batch {batch}: has expired, or was deleted, before it was complete")


def check_batch(batch: str) -> str:
    """The id. Raises InvalidJob for what cannot be one."""
    require_id("batch", batch)
    return batch


def _state(batch: str, fields: Mapping[str, str]) -> BatchState:
    def number(name: str) -> int | None:
        text = fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else None

    status = fields.get("status", "")
    return BatchState(
        batch,
        BatchStatus(status) if status in list(BatchStatus) else BatchStatus.OPEN,
        number("run") or 1,
        number("total"),
        number("jobs") or 0,
        {each: number(each.value) or 0 for each in Status if each.terminal},
        number("repeated") or 0,
        number("created_at_ms"),
        number("completed_at_ms"),
        number("cancel_at_ms"),
    )
