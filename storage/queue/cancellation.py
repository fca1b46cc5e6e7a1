"""Cancelling jobs: whatever works on one is fenced, and its result is dropped."""

from dataclasses import dataclass
from enum import StrEnum

import redis

from storage.queue.reader import peek
from storage.queue.scripts import load_script
from storage.wire.messages import GROUP, Keys, default_entry


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


class Cancellations:
    """Cancels jobs. Thread-safe as redis-py's client is."""

    def __init__(
        self, client: redis.Redis, *, keys: Keys, result_ttl_seconds: float, results_maxlen: int
    ) -> None:
        self._client = client
        self._keys = keys
        self._settling: list[str | int] = [
            keys.prefix,
            GROUP,
            round(result_ttl_seconds * 1000),
            results_maxlen,
        ]
        self._cancel = load_script(client, "cancel")

    def cancel(self, job_id: str) -> Cancelled:
        """End a job as `cancelled` unless it has ended; repeating it is safe."""
        # A job enqueued by plain XADD has no hash until a worker begins it.
        place = default_entry(job_id)
        lane, entry = place or ("", "")
        here = place and peek(self._client, self._keys, *place)
        oversized = int(bool(here and here.oversized))
        verdict, was = self._cancel(
            keys=self._keys.lanes, args=[*self._settling, job_id, lane, entry, oversized]
        )
        return Cancelled(job_id, Verdict(verdict.decode()), was.decode("utf-8", "replace") or None)
