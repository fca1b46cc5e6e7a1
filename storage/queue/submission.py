"""The producers' side of the wire contract: enqueue once, look up, wait."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from storage.errors import InvalidJob
from storage.queue.reader import peek
from storage.queue.scripts import load_script
from storage.redis.bounds import ReplyTooLarge
from storage.redis.connection import stream_entries
from storage.wire.messages import Job, Keys, Lane, Status, default_entry, has_ended, may_be_given

_FROM_NOW_ON = "$"
_SWEEP_SECONDS = 5.0  # events are a hint: every so often the hashes are read anyway


class BacklogFull(Exception):
    """The lanes hold as many jobs as `EMO_MAX_BACKLOG` allows."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission: enqueued now, or known already with this status in its hash."""

    job_id: str
    status: str
    enqueued: bool


class Submissions:
    """Submit jobs and look at them. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis, *, keys: Keys, max_backlog: int) -> None:
        self._client = client
        self._keys = keys
        self._max_backlog = max_backlog
        self._submit = load_script(client, "submit")

    def submit(self, job: Job, lane: Lane) -> Submitted:
        """Enqueue a job once: repeating it is safe. Raises BacklogFull, InvalidJob.

        Under the id of an entry only a job that is known may be sent, to be run again.
        """
        verdict, detail = self._submit(
            keys=self._keys.lanes,
            args=[
                self._keys.prefix,
                job.id,
                lane.value,
                self._max_backlog,
                *(x for pair in job.fields().items() for x in pair),
            ],
        )
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

    def status(self, job_id: str) -> dict[str, str] | None:
        """The result hash without internal fields; None for a job nobody knows."""
        found = self._hash(job_id)
        # A job enqueued by plain XADD has no hash until a worker begins it.
        place = default_entry(job_id)
        if found or place is None:
            return found
        lane, entry = place
        here = peek(self._client, self._keys, lane, entry)
        given = here.fields.get(b"job", b"").decode("utf-8", "replace") if here else ""
        # With an id of its own it is another job; of one that is oversized nobody knows it.
        if here and not may_be_given(given):
            return {"status": Status.QUEUED.value}
        return self._hash(job_id)  # it may have ended between the two looks

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        timeout_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield (job id, result) as jobs end. Raises TimeoutError with jobs still open."""
        open_jobs = dict.fromkeys(job_ids)
        last = self._last_event()
        deadline = None if timeout_seconds is None else clock() + timeout_seconds
        suspects: Sequence[str] = list(open_jobs)
        sweep_at = clock() + _SWEEP_SECONDS
        while True:
            for job_id in suspects:
                result = self.status(job_id)
                if result and has_ended(result) and job_id in open_jobs:
                    del open_jobs[job_id]
                    yield job_id, result
            if not open_jobs:
                return
            now = clock()
            if deadline is not None and now >= deadline:
                raise TimeoutError(f"{len(open_jobs)} job(s) have not ended yet")
            last, named = self._events(last, until=min(sweep_at, deadline or sweep_at) - now)
            suspects = [job_id for job_id in named if job_id in open_jobs]
            if clock() >= sweep_at:
                suspects, sweep_at = list(open_jobs), clock() + _SWEEP_SECONDS

    def _hash(self, job_id: str) -> dict[str, str] | None:
        found: Any = self._client.hgetall(self._keys.result(job_id))
        return {
            name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
            for name, value in found.items()
            if not name.startswith(b"_")
        } or None

    def _last_event(self) -> str:
        try:
            newest: Any = self._client.xrevrange(self._keys.results, count=1)
        except ReplyTooLarge:
            return _FROM_NOW_ON
        return str(newest[0][0].decode()) if newest else "0-0"

    def _events(self, last: str, *, until: float) -> tuple[str, list[str]]:
        """The newest event, and the jobs of those after `last`; waits `until` seconds for one."""
        block_ms = max(1, min(1000, round(until * 1000)))
        try:
            reply: Any = self._client.xread({self._keys.results: last}, count=1000, block=block_ms)
        except ReplyTooLarge:  # what stands before it is found by a sweep
            return _FROM_NOW_ON, []
        entries = [entry for _, entry in stream_entries(reply)]
        if not entries:
            return last, []
        return entries[-1][0].decode(), [
            fields.get(b"job", b"").decode("utf-8", "replace") for _, fields in entries
        ]
