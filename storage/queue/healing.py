"""Putting streams right that somebody has used up.

An entry's id may be chosen by whoever adds it, and all ids after it are higher. From a day ahead of
the clock on, a lane is put aside and begun anew, and what stood in it comes back entry by entry.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from storage.queue.reader import CHUNK, EntryReader, delivery
from storage.queue.scripts import load_script
from storage.redis.bounds import ReplyTooLarge
from storage.wire.messages import GROUP, Keys, Lane


@dataclass(frozen=True, slots=True)
class Healed:
    """A stream that was put right. `what` was done, and `at` says when, by the server's clock."""

    stream: str
    what: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Rescued:
    """What was brought back: entries, how many were oversized, and why it stopped short."""

    entries: int = 0
    refused: int = 0
    why: str = ""


class Healing:
    """Looks at the lanes and puts them right. Thread-safe as redis-py's client is.

    Any worker may go on where another has stopped. `settling` are the first arguments of every
    script that can end a job.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        owner: str,
        keys: Keys,
        reader: EntryReader,
        settling: Sequence[str | int],
    ) -> None:
        self._client: Any = client
        self._owner = owner
        self._keys = keys
        self._reader = reader
        self._settling = list(settling)
        self._heal = load_script(client, "heal")
        self._rescue = load_script(client, "rescue")

    def heal(self) -> Rescued:
        """Look at every lane; put aside the one that needs it, and bring back what it held."""
        rescued = Rescued()
        for lane in Lane:
            came_to_nothing = False
            while group := self._put_aside(lane, came_to_nothing=came_to_nothing):
                part = self._bring_back(lane, group)
                rescued = Rescued(
                    rescued.entries + part.entries,
                    rescued.refused + part.refused,
                    part.why or rescued.why,
                )
                if part.why or (came_to_nothing and not part.entries):
                    break
                came_to_nothing = not part.entries
        return rescued

    def healed(self) -> list[Healed]:
        """What was put right in the last week, by whichever worker."""
        return healed_streams(self._client, self._keys)

    def _put_aside(self, lane: Lane, *, came_to_nothing: bool) -> str:
        """Put the lane aside where it needs that; the group that gives out what is aside, or ""."""
        _, waiting, group = self._heal(
            keys=[self._keys.lane(lane), self._keys.aside(lane)],
            args=[self._keys.prefix, GROUP, int(came_to_nothing)],
        )
        return str(group.decode()) if waiting else ""

    def _bring_back(self, lane: Lane, group: str) -> Rescued:
        aside = self._keys.aside(lane)
        # For their ids alone: in the pending list an entry can be named without being read.
        with suppress(ReplyTooLarge):
            self._client.xreadgroup(group, self._owner, {aside: ">"}, count=CHUNK)
        pending = self._client.xpending_range(aside, group, "-", "+", CHUNK)
        entries = [each["message_id"].decode() for each in pending]
        listed = self._reader.fetch(aside, entries)
        states = [
            "oversized" * delivery(lane, entry, 1, listed.get(entry, ())).oversized
            for entry in entries
        ]
        looked, refused, why = self._rescue(
            keys=[self._keys.lane(lane), aside],
            args=[
                *self._settling,
                lane.value,
                group,
                *(x for pair in zip(entries, states, strict=True) for x in pair),
            ],
        )
        return Rescued(looked, refused, why.decode())


def healed_streams(client: Any, keys: Keys) -> list[Healed]:
    """What was put right in the last week, the latest first."""
    found = []
    for stream, said in client.hgetall(keys.healed).items():
        at_ms, _, what = said.decode("utf-8", "replace").partition(" ")
        if at_ms.isdigit():
            found.append(Healed(stream.decode("utf-8", "replace"), what, int(at_ms)))
    return sorted(found, key=lambda one: -one.at_ms)
