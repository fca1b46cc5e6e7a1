"""What ended last, by the events: rates and failures where nobody has counted them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from storage.queue.following import fields_as_text
from storage.redis.bounds import ReplyTooLarge
from storage.redis.connection import server_now_ms
from storage.wire.messages import Keys, Status, has_ended

MOST = 1000  # events that are looked at
_LETTERS = (Status.FAILED, Status.DEAD, Status.EXPIRED)


@dataclass(frozen=True, slots=True)
class End:
    """The end of one job, `ago_seconds` by the clock of Redis."""

    job_id: str
    status: str
    error_code: str
    ago_seconds: float

    @property
    def failed(self) -> bool:
        """Whether it ended without a result that somebody wanted."""
        return self.status in _LETTERS


class RecentEnds:
    """Looks at the newest events. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client: Any = client
        self._keys = keys

    def look(self) -> Sequence[End]:
        """The last thousand ends, the newest first; none where an event is oversized."""
        now_ms = server_now_ms(self._client)
        try:
            found = self._client.xrevrange(self._keys.results, count=MOST)
        except ReplyTooLarge:
            return []
        told = [(int(entry.partition(b"-")[0]), fields_as_text(fields)) for entry, fields in found]
        return [
            End(
                fields.get("job", ""),
                fields["status"],
                fields.get("error_code", ""),
                max(0, now_ms - at_ms) / 1000,
            )
            for at_ms, fields in told
            if has_ended(fields)
        ]
