"""How entries come out of the lanes: new ones, and those that are ours or nobody's by now.

What a script looks at, it holds whole, and so does the server's reply to it. So a worker reads each
entry itself before any script does, by a connection that refuses what is too large: see
storage/redis/bounds.py. What was refused is `oversized`, and never read again.
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import redis

from storage.queue.entries import Delivery
from storage.queue.pauses import LOOK_SECONDS, Pauses
from storage.redis.bounds import MAX_REPLY_BYTES, ReplyTooLarge
from storage.redis.connection import RedisError
from storage.wire.messages import GROUP, Keys, Lane

LANE_SHARES = {Lane.HIGH: 7, Lane.NORMAL: 2, Lane.BULK: 1}  # of ten free places
# Largest entries that scripts look at: a job may be as large, and hold half as many fields.
MAX_ENTRY_BYTES = 1024**2 + 4096
MAX_ENTRY_FIELDS = 2000
CHUNK = 64  # entries of others are read by so many
_LAST = "18446744073709551615-18446744073709551615"  # after which there is no id
_PAGE = 500  # entries that a look at what is pending names
# Given as bytes, a command's reply is as the server sent it: as a mapping, an entry whose fields
# are repeated looks smaller than it is.
_XREADGROUP, _XRANGE = b"XREADGROUP", b"XRANGE"


class EntryReader:
    """Reads entries for one consumer of the group. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis, *, owner: str, keys: Keys, max_job_bytes: int) -> None:
        self._client: Any = client
        self._owner = owner
        self._keys = keys
        self.pauses = Pauses(client, keys)
        # A reply full of the largest jobs is half of what is taken.
        self._most = max(len(Lane), MAX_REPLY_BYTES // 2 // max_job_bytes)

    def read(self, free: int) -> list[Delivery]:
        """At most `free` new entries, without waiting; unused shares go to the other lanes.

        Raises ReplyTooLarge where one of them is: all are ours then, and `recover` finds them.
        """
        taken: list[Delivery] = []
        hungry = self._open_lanes()
        free = min(free, self._most)
        while hungry and len(taken) < free:
            room, shares = free - len(taken), sum(LANE_SHARES[lane] for lane in hungry)
            for lane in list(hungry):
                # Rounded at random: of three free places, too, bulk gets its share in the long run.
                quota = int(room * LANE_SHARES[lane] / shares + random.random())
                try:
                    got = self._read([lane], quota) if quota else []
                except ReplyTooLarge:
                    raise
                except RedisError:
                    if not taken:
                        raise
                    return taken  # these are ours to look after; the error comes again
                taken += got
                room, shares = room - quota, shares - LANE_SHARES[lane]
                if len(got) < quota:
                    hungry.remove(lane)
        return taken

    def read_blocking(self, free: int, *, block_seconds: float) -> list[Delivery]:
        """Wait for new entries in any lane. COUNT is per stream, so a third of `free` for each.

        Raises as `read` does.
        """
        count = max(1, min(free, self._most) // len(Lane))
        lanes = self._open_lanes()
        if len(lanes) < len(Lane):
            block_seconds = min(block_seconds, LOOK_SECONDS)
        if not lanes:
            time.sleep(block_seconds)  # all are paused, and Redis tells nobody when one is resumed
            return []
        return self._read(lanes, count, block_seconds)

    def _open_lanes(self) -> list[Lane]:
        paused = self.pauses.recent()
        return [lane for lane in Lane if lane not in paused]

    def recover(self, held: Callable[[Lane, str], bool], limit: int) -> list[Delivery]:
        """At most `limit` entries that were given to us, and never came: they are not `held`."""
        found: list[Delivery] = []
        for lane in Lane:
            first = "-"
            while len(found) < limit:
                stream = self._keys.lane(lane)
                ours = self._client.xpending_range(stream, GROUP, first, "+", _PAGE, self._owner)
                counts = {
                    each["message_id"].decode(): int(each["times_delivered"]) for each in ours
                }
                lost = [entry for entry in counts if not held(lane, entry)]
                for entry, listed in self.fetch(stream, lost[: limit - len(found)]).items():
                    found.append(delivery(lane, entry, counts[entry], listed))
                following = after(list(counts)[-1]) if len(ours) == _PAGE else None
                if following is None:
                    break
                first = following
        return found

    def fetch(self, stream: str, entries: Sequence[str]) -> dict[str, list[bytes] | None]:
        """The fields of a stream's entries, as Redis lists them, in order.

        None stands for one that is oversized; those that are gone are left out.
        """
        found: dict[str, list[bytes] | None] = {}
        left, careful = list(entries), 0
        while left:
            # One that was refused stands among these: each alone, or it would be sent each time.
            some = left[:1] if careful else left[:CHUNK]
            careful = max(0, careful - 1)
            try:
                reply = self._range(stream, some[0], some[-1])
            except ReplyTooLarge:
                if len(some) == 1:
                    found[some[0]] = None
                    left = left[1:]
                else:
                    careful = len(some)
                continue
            came = {entry.decode(): listed for entry, listed in reply}
            # Others' entries may stand between them, and fill the reply.
            reached = list(came)[-1] if len(came) == CHUNK else some[-1]
            while left and entry_number(left[0]) <= entry_number(reached):
                entry = left.pop(0)
                if entry in came:
                    found[entry] = came[entry]
        return found

    def named(self, stream: str, first: str, last: str) -> dict[str, bool]:
        """Some ids of entries in that range, in order, and whether each is oversized."""
        try:
            reply = self._range(stream, first, last)
        except ReplyTooLarge:
            return self._named_one_by_one(stream, first, last)
        return {entry.decode(): is_oversized(listed) for entry, listed in reply}

    def _named_one_by_one(self, stream: str, first: str, last: str) -> dict[str, bool]:
        found: dict[str, bool] = {}
        start: str | None = first
        while start is not None and len(found) < CHUNK:
            try:
                reply = self._range(stream, start, last, 1)
            except ReplyTooLarge as error:
                entry, oversized = error.first.decode(), True
            else:
                if not reply:
                    break
                entry, oversized = reply[0][0].decode(), is_oversized(reply[0][1])
            found[entry] = oversized
            start = after(entry)
        return found

    def _range(self, stream: str, first: str, last: str, count: int = CHUNK) -> Any:
        return self._client.execute_command(_XRANGE, stream, first, last, "COUNT", count)

    def _read(
        self, lanes: Sequence[Lane], count: int, block_seconds: float | None = None
    ) -> list[Delivery]:
        by_stream = {self._keys.lane(lane).encode(): lane for lane in lanes}
        block = [] if block_seconds is None else ["BLOCK", round(block_seconds * 1000)]
        reply = self._client.execute_command(
            _XREADGROUP,
            *("GROUP", GROUP, self._owner, "COUNT", count, *block),
            *("STREAMS", *by_stream, *([">"] * len(lanes))),
        )
        streams = reply.items() if isinstance(reply, dict) else reply or []
        return [
            delivery(by_stream[stream], entry.decode(), 1, listed or [])
            for stream, batch in streams
            for entry, listed in batch
        ]


def first_after(client: redis.Redis, stream: str, entry: str) -> bytes:
    """The id of the next entry; b"" where there is none, or it is too large to be read."""
    asking: Any = client
    with suppress(ReplyTooLarge):
        if entry != _LAST and (
            reply := asking.execute_command(_XRANGE, stream, f"({entry}", "+", "COUNT", 1)
        ):
            return bytes(reply[0][0])
    return b""


def delivery(lane: Lane, entry: str, count: int, listed: Sequence[bytes] | None) -> Delivery:
    """The delivery of an entry; of one that is oversized nothing is kept."""
    if listed is None or is_oversized(listed):
        return Delivery(lane, entry, count, (), oversized=True)
    return Delivery(lane, entry, count, listed)


def is_oversized(listed: Sequence[bytes]) -> bool:
    """Whether an entry's fields, as Redis lists them, are more than a script may look at."""
    return len(listed) > 2 * MAX_ENTRY_FIELDS or sum(map(len, listed)) > MAX_ENTRY_BYTES


def after(entry: str) -> str | None:
    """Where a range begins that leaves out what comes up to an entry; None after the last id."""
    return None if entry == _LAST else f"({entry}"


def entry_number(entry: str) -> tuple[int, int]:
    """The id of an entry, to be compared with others."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)
