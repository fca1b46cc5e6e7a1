"""How full the lanes are: one look by one script, whose cost does not grow with the backlog.

The next entry of each lane is read beside it, since a script may not look at what is oversized.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import redis

from storage.queue.healing import Healed, healed_streams
from storage.queue.pauses import Pauses
from storage.queue.reader import first_after
from storage.queue.scripts import load_script
from storage.wire.messages import GROUP, Keys, Lane

SAMPLE = 100  # retries (the next) and letters (the newest) asked for their lane


@dataclass(frozen=True, slots=True)
class Consumer:
    """A worker in one lane. `idle_seconds` is how long it has been silent there."""

    name: str
    in_flight: int
    idle_seconds: float


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane. Ages are those of the oldest entry, None where there is none."""

    lane: Lane
    queued: int
    in_flight: int
    delayed: int
    dead: int
    oldest_queued_seconds: float | None
    oldest_in_flight_seconds: float | None
    consumers: Sequence[Consumer]


@dataclass(frozen=True, slots=True)
class Overview:
    """All lanes at one instant. `delayed` and `dead` are counted, whatever each lane's are.

    `newest_dead_seconds` is the age of the newest letter, None where there is none. `healed` are
    the streams that were put right in the last week; `paused_seconds` is for how long lanes have
    been paused that are.
    """

    lanes: Sequence[LaneState]
    delayed: int
    dead: int
    delayed_estimated: bool
    dead_estimated: bool
    newest_dead_seconds: float | None = None
    healed: Sequence[Healed] = ()
    paused_seconds: Mapping[Lane, float] = field(default_factory=dict)


class Lanes:
    """Looks at the lanes. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis, *, keys: Keys, sample: int = SAMPLE) -> None:
        self._client = client
        self._keys = keys
        self._sample = sample
        self._pauses = Pauses(client, keys)
        self._look = load_script(client, "lanes")

    def look(self) -> Overview:
        """The state of all lanes. Each lane's share of delayed and dead may be an estimate.

        How old the next entry is that nobody has read, is not known where it is oversized.
        """
        now_ms, states, delayed, dead, newest = self._look(
            keys=self._keys.lanes, args=[self._keys.prefix, GROUP, self._sample]
        )
        for stream, state in zip(self._keys.lanes, states, strict=True):
            state[1] = first_after(self._client, stream, state[1].decode())
        shares = zip(Lane, states, _shares(delayed), _shares(dead), strict=True)
        return Overview(
            lanes=[_state(now_ms, *share) for share in shares],
            delayed=delayed[0],
            dead=dead[0],
            delayed_estimated=delayed[1] < delayed[0],
            dead_estimated=dead[1] < dead[0],
            newest_dead_seconds=_oldest(now_ms, [newest]),
            healed=healed_streams(self._client, self._keys),
            paused_seconds={
                lane: max(0, now_ms - since_ms) / 1000
                for lane, since_ms in self._pauses.since_ms().items()
            },
        )


def _state(
    now_ms: int,
    lane: Lane,
    found: tuple[int, bytes, tuple[int, bytes], list[tuple[bytes, int, int, bytes]]],
    delayed: int,
    dead: int,
) -> LaneState:
    length, unread, (_, given_back), consumers = found
    in_flight = sum(pending for _, pending, _, _ in consumers)
    return LaneState(
        lane=lane,
        # What was given back waits like what was never read. Redis 6.2 does not count the unread;
        # and a pending entry may have been deleted from the lane.
        queued=max(0, length - in_flight),
        in_flight=in_flight,
        delayed=delayed,
        dead=dead,
        oldest_queued_seconds=_oldest(now_ms, [unread, given_back]),
        oldest_in_flight_seconds=_oldest(now_ms, [oldest for _, _, _, oldest in consumers]),
        consumers=[
            Consumer(name.decode("utf-8", "replace"), pending, idle_ms / 1000)
            for name, pending, idle_ms, _ in consumers
        ],
    )


def _shares(counted: tuple[int, int, int, int, int]) -> list[int]:
    """What each lane has of them, scaled up where only a sample was looked at."""
    total, sampled, *by_lane = counted
    return [round(count * total / sampled) if sampled else 0 for count in by_lane]


def _oldest(now_ms: int, entries: Sequence[bytes]) -> float | None:
    """Seconds since the first of them was added; an id is a time, unless its sender chose it."""
    added_ms = [int(entry.partition(b"-")[0]) for entry in entries if entry]
    return max(0, now_ms - min(added_ms)) / 1000 if added_ms else None
