"""Looking at jobs and waiting for their ends, by their hashes and by the events of them all."""

import time
from collections.abc import Callable, Sequence

from storage.queue.entries import Delivery
from storage.queue.reader import delivery, entry_number
from storage.queue.steps import Command, Give, Pause, Steps
from storage.redis.connection import RedisError, ReplyTooLarge, is_outage, stream_entries
from storage.wire.messages import Keys, Lane, Status, default_entry, has_ended, may_be_given

_SWEEP_SECONDS = 5.0  # events are a hint: every so often the hashes are read anyway
_BACKOFF_SECONDS = (0.1, 5.0)
_EVENTS_AT_ONCE = 1000
_BLOCK_MS = 1000
_FROM_THE_START = "0-0"


class Following:
    """Looks at jobs, and waits for their ends."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def status(self, job_id: str) -> Steps[dict[str, str] | None]:
        """The result hash without internal fields; None for a job nobody knows."""
        found = yield from self._hash(job_id)
        # A job enqueued by plain XADD has no hash until a worker begins it.
        place = default_entry(job_id)
        if found or place is None:
            return found
        here = yield from peek(self._keys, *place)
        given = here.fields.get(b"job", b"").decode("utf-8", "replace") if here else ""
        # With an id of its own it is another job; of one that is oversized nobody knows it.
        if here and not may_be_given(given):
            return {"status": Status.QUEUED.value}
        return (yield from self._hash(job_id))  # it may have ended between the two looks

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        timeout_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Steps[None]:
        """Give (job id, result) as jobs end. Raises TimeoutError with jobs still open."""
        open_jobs = dict.fromkeys(job_ids)
        last = yield from self._last_event()
        deadline = None if timeout_seconds is None else clock() + timeout_seconds
        suspects: Sequence[str] = list(open_jobs)
        sweep_at = clock() + _SWEEP_SECONDS
        while True:
            for job_id in suspects:
                result = yield from self.status(job_id)
                if result and has_ended(result) and job_id in open_jobs:
                    del open_jobs[job_id]
                    yield Give((job_id, result))
            if not open_jobs:
                return
            now = clock()
            if deadline is not None and now >= deadline:
                raise TimeoutError(f"{len(open_jobs)} job(s) have not ended yet")
            until = min(sweep_at, deadline or sweep_at) - now
            entries = yield from self._read(last, max(1, min(_BLOCK_MS, round(until * 1000))))
            if entries:
                last = entries[-1][0]
            told = [fields.get("job", "") for _, fields in entries]
            suspects = [job_id for job_id in told if job_id in open_jobs]
            if clock() >= sweep_at:
                suspects, sweep_at = list(open_jobs), clock() + _SWEEP_SECONDS

    def events(self, after: str | None = None) -> Steps[None]:
        """Give (id, fields) of each event after that id, or from now on; it never ends.

        Where Redis is away it is asked again until it is back. A stream that is begun anew, since
        its ids were used up or the server lost it, is read from its start.
        """
        last, wait_seconds = after, _BACKOFF_SECONDS[0]
        while True:
            entries: list[tuple[str, dict[str, str]]] = []
            try:
                if last is None:
                    last = yield from self._last_event()
                entries = yield from self._read(last, _BLOCK_MS)
                if not entries and entry_number(last) > entry_number(
                    (yield from self._last_event())
                ):
                    last = _FROM_THE_START
            except RedisError as error:
                if not is_outage(error):
                    raise
                yield Pause(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _BACKOFF_SECONDS[1])
                continue
            wait_seconds = _BACKOFF_SECONDS[0]
            for last, fields in entries:
                yield Give((last, fields))

    def _hash(self, job_id: str) -> Steps[dict[str, str] | None]:
        found = yield Command(("HGETALL", self._keys.result(job_id)))
        return {
            name: value for name, value in fields_as_text(found).items() if name[:1] != "_"
        } or None

    def _last_event(self) -> Steps[str]:
        words = ("XREVRANGE", self._keys.results, "+", "-", "COUNT", 1)
        return (yield from _first_id(words)) or _FROM_THE_START

    def _read(self, last: str, block_ms: int) -> Steps[list[tuple[str, dict[str, str]]]]:
        """The events after `last`; waits for one. One that is oversized comes without fields."""
        for count in (_EVENTS_AT_ONCE, 1):
            how = ("COUNT", count, "BLOCK", block_ms)
            try:
                reply = yield Command(("XREAD", *how, "STREAMS", self._keys.results, last))
            except ReplyTooLarge:
                continue
            return [
                (entry.decode(), fields_as_text(fields))
                for _, (entry, fields) in stream_entries(reply)
            ]
        words = ("XRANGE", self._keys.results, f"({last}", "+", "COUNT", 1)
        entry = yield from _first_id(words)
        return [(entry, {})] if entry else []


def _first_id(words: Sequence[str | int]) -> Steps[str | None]:
    """The id of the one entry that is asked for, however large it is; None where there is none."""
    try:
        found = yield Command(words)
    except ReplyTooLarge as error:
        return error.first.decode()
    return str(found[0][0].decode()) if found else None


def peek(keys: Keys, lane: Lane, entry: str) -> Steps[Delivery | None]:
    """An entry of a lane as it stands there, whoever has it; None where it is gone."""
    try:
        # As bytes, its reply is as the server sent it.
        reply = yield Command((b"XRANGE", keys.lane(lane), entry, entry))
    except ReplyTooLarge:
        return delivery(lane, entry, 0, None)
    return delivery(lane, entry, 0, reply[0][1]) if reply else None


def fields_as_text(raw: dict[bytes, bytes]) -> dict[str, str]:
    """Fields as text, whatever stands in them."""
    return {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for name, value in raw.items()
    }
