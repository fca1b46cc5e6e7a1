"""Taking over entries of workers that are silent, and what was given back."""

import time
from collections.abc import Callable, Sequence

import redis

from storage.queue.entries import Reclaimed
from storage.queue.reader import EntryReader, after, delivery
from storage.queue.scripts import load_script
from storage.redis.connection import RedisError
from storage.wire.messages import GROUP, Keys, Lane

MAX_DELIVERIES = 10
_FROM_THE_START = "-"
# Entries looked at in one call: suspects that must wait do not hide what is behind them.
_PAGES = (64, 500)


class Takeover:
    """Looks for abandoned entries, reads them, takes them over. Not thread-safe.

    `settling` are the first arguments of every script that can end a job; `clock` gives seconds,
    from anywhere.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        owner: str,
        keys: Keys,
        reader: EntryReader,
        settling: Sequence[str | int],
        lease_ms: int,
        max_crashes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owner = owner
        self._keys = keys
        self._reader = reader
        self._settling = list(settling)
        self._lease_ms = lease_ms
        self._max_crashes = max_crashes
        self._clock = clock
        self._ahead_ms: float | None = None  # the server's clock, less ours
        self._from = dict.fromkeys(Lane, _FROM_THE_START)  # where to go on in each lane
        self._abandoned = load_script(client, "abandoned")
        self._reclaim = load_script(client, "reclaim")

    def __call__(self, limit: int, *, suspects: int, given_back_only: bool) -> Reclaimed:
        """See `JobStreams.reclaim`."""
        found, patient = Reclaimed(), given_back_only
        if self._ahead_ms is None:
            self._look(Lane.HIGH, 1, given_back_only=True)  # learns the server's time
        for lane in Lane:
            room = limit - len(found.deliveries)
            if not room:
                break
            try:
                part, suspects, given_back_only = self._of_lane(
                    lane, room, suspects, given_back_only
                )
            except RedisError:
                if found == Reclaimed():
                    raise
                break  # what was found is to be looked after; the error comes again
            found = Reclaimed(
                found.deliveries + part.deliveries,
                found.gone + part.gone,
                found.dead + part.dead,
                found.refused + part.refused,
                held_up=given_back_only and not patient,
            )
        return found

    def _of_lane(
        self, lane: Lane, limit: int, suspects: int, given_back_only: bool
    ) -> tuple[Reclaimed, int, bool]:
        """What was taken over in one lane; `suspects` and `given_back_only` for the next."""
        page = min(max(limit, _PAGES[0]), _PAGES[1])
        pending, only = self._look(lane, page, given_back_only=given_back_only)
        if not pending:
            self._from[lane] = _FROM_THE_START
            return Reclaimed(), suspects, only
        listed = self._reader.fetch(self._keys.lane(lane), [entry for entry, _, _ in pending])
        read = {
            entry: delivery(lane, entry, count, listed[entry])
            for entry, _, count in pending
            if entry in listed
        }
        states = {
            entry: "gone" if entry not in read else "oversized" * read[entry].oversized
            for entry, _, _ in pending
        }
        taken, gone, dead, refused, looked, suspects, only, now_ms = self._reclaim(
            keys=[self._keys.lane(lane)],
            args=[
                *self._settling,
                self._owner,
                lane.value,
                self._lease_ms,
                limit,
                suspects,
                self._sent_ms(),
                MAX_DELIVERIES,
                self._max_crashes,
                int(only),
                *(x for entry, own, n in pending for x in (entry, own, n, states[entry])),
            ],
        )
        self._learn(now_ms)
        more = looked < len(pending) or len(pending) == page
        following = after(pending[looked - 1][0]) if more and looked else None
        self._from[lane] = following or _FROM_THE_START
        found = Reclaimed(
            [
                delivery(lane, entry.decode(), int(count), read[entry.decode()].listed)
                for entry, count in taken
            ],
            gone,
            [job.decode() for job in dead],
            refused,
        )
        return found, suspects, bool(only)

    def _look(
        self, lane: Lane, page: int, *, given_back_only: bool
    ) -> tuple[list[tuple[str, str, int]], bool]:
        """Abandoned entries, with owner and count; and whether leases cannot be trusted."""
        pending, only, now_ms = self._abandoned(
            keys=[self._keys.lane(lane)],
            args=[
                GROUP,
                self._lease_ms,
                self._from[lane],
                self._sent_ms(),
                int(given_back_only),
                page,
                self._keys.prefix,
                lane.value,
            ],
        )
        self._learn(now_ms)
        return [(entry.decode(), owner.decode(), n) for entry, owner, n in pending], bool(only)

    def _sent_ms(self) -> int:
        """Now, by the server's clock as far as it is known."""
        return round(1000 * self._clock() + (self._ahead_ms or 0))

    def _learn(self, now_ms: int) -> None:
        self._ahead_ms = now_ms - 1000 * self._clock()
