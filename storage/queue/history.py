"""What has ended, from the events that are kept and the hashes that are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from storage.queue.following import fields_as_text
from storage.wire.messages import Keys, has_ended

_AT_ONCE = 500
_LAST = 2**64 - 1  # of the entries of one millisecond


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of one run of a job: its event; and its hash, where that still tells of this run.

    Where it has `expired` there is no hash at all; else it tells of a later run.
    """

    entry: str
    event: Mapping[str, str]
    result: Mapping[str, str]
    expired: bool = False


class History:
    """Reads it, a part at a time. Thread-safe as redis-py's client is. Raises RedisError."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys

    def oldest_ms(self) -> int | None:
        """When the oldest event that is kept came; None where there is none."""
        found = self._client.xrange(self._keys.results, count=1)
        return int(found[0][0].split(b"-")[0]) if found else None

    def ends(self, from_ms: int, to_ms: int, batch: str | None = None) -> Iterator[Ended]:
        """Those from `from_ms` up to `to_ms`, by the clock of Redis, as they came; of one batch.

        Entries that no worker wrote are left out.
        """
        first, last = f"{from_ms}-0", f"{to_ms - 1}-{_LAST}"
        while found := self._client.xrange(self._keys.results, first, last, count=_AT_ONCE):
            events = [(entry.decode(), fields_as_text(raw)) for entry, raw in found]
            wanted = [
                (entry, event)
                for entry, event in events
                if has_ended(event) and event.get("job") and batch in (None, event.get("batch"))
            ]
            pipeline = self._client.pipeline(transaction=False)
            for _, event in wanted:
                pipeline.hgetall(self._keys.result(event["job"]))
            hashes = pipeline.execute() if wanted else []
            for (entry, event), raw in zip(wanted, hashes, strict=True):
                result = fields_as_text(raw)
                same = has_ended(result) and result.get("run") == event.get("run")
                yield Ended(entry, event, result if same else {}, expired=not result)
            first = f"({events[-1][0]}"
