"""Entries that were delivered, and whose consumer somebody deleted: in nobody's pending list."""

from typing import Any

import redis
from redis.exceptions import ResponseError

from storage.queue.reader import EntryReader, after
from storage.queue.scripts import load_script
from storage.wire.messages import GROUP, Keys, Lane

_FROM_THE_START = "-"
_PAGES = 16  # of a lane that are looked at in one call


class Stranded:
    """Looks for them, some pages at a time, and makes them anybody's. Not thread-safe."""

    def __init__(self, client: redis.Redis, *, keys: Keys, reader: EntryReader) -> None:
        self._client: Any = client
        self._keys = keys
        self._reader = reader
        self._from = dict.fromkeys(Lane, _FROM_THE_START)
        self._adopt = load_script(client, "adopt")

    def adopt(self) -> int:
        """Make those that are found given back, for reclaim to take; returns how many."""
        return sum(self._in_lane(lane) for lane in Lane)

    def _in_lane(self, lane: Lane) -> int:
        stream, found = self._keys.lane(lane), 0
        for _ in range(_PAGES):
            last = self._last_delivered(stream)
            entries = self._reader.named(stream, self._from[lane], last) if last else {}
            if not entries:
                self._from[lane] = _FROM_THE_START
                break
            self._from[lane] = after(list(entries)[-1]) or _FROM_THE_START
            states = ((entry, "oversized" * large) for entry, large in entries.items())
            found += self._adopt(
                keys=[stream],
                args=[self._keys.prefix, GROUP, lane.value, *(x for each in states for x in each)],
            )
        return found

    def _last_delivered(self, stream: str) -> str | None:
        """The last entry that any worker was given; None where there is no group."""
        try:
            groups = self._client.xinfo_groups(stream)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return None
        known = {group["name"]: group["last-delivered-id"].decode() for group in groups}
        return known.get(GROUP.encode())
