"""Cancelling jobs: whatever works on one is fenced, and its result is dropped."""

from dataclasses import dataclass
from enum import StrEnum

import redis

from storage.queue.entries import Ends
from storage.queue.following import peek
from storage.queue.steps import Call, Driver, Steps
from storage.wire.messages import Keys, default_entry


class Verdict(StrEnum):
    """What cancelling a job came to."""

    CANCELLED = "CANCELLED"
    ENDED = "ENDED"  # it had ended before; nothing changed
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of a cancellation, and the job's status before, as its hash had it.

    None for an unknown job.
    """

    job_id: str
    verdict: Verdict
    was: str | None


class Cancelling:
    """Cancels jobs."""

    def __init__(self, keys: Keys, ends: Ends) -> None:
        self._keys = keys
        self._ends = ends

    def cancel(self, job_id: str) -> Steps[Cancelled]:
        """End a job as `cancelled` unless it has ended; repeating it is safe."""
        # A job enqueued by plain XADD has no hash until a worker begins it.
        place = default_entry(job_id)
        here = (yield from peek(self._keys, *place)) if place else None
        lane, entry = place or ("", "")
        oversized = int(bool(here and here.oversized))
        settling = self._ends.settling(self._keys)
        verdict, was = yield Call(
            "cancel", self._keys.lanes, [*settling, job_id, lane, entry, oversized]
        )
        said = was.decode("utf-8", "replace") or None
        return Cancelled(job_id, Verdict(verdict.decode()), said)


class Cancellations:
    """Cancels jobs, on this thread. Thread-safe as redis-py's client is."""

    def __init__(
        self, client: redis.Redis, *, keys: Keys, result_ttl_seconds: float, results_maxlen: int
    ) -> None:
        self._driver = Driver(client)
        self._cancelling = Cancelling(keys, Ends(result_ttl_seconds, results_maxlen))

    def cancel(self, job_id: str) -> Cancelled:
        """See `Cancelling.cancel`."""
        return self._driver.run(self._cancelling.cancel(job_id))
