"""All that the live view shows, as it was at one moment."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from producer.show_lanes import overview_told
from storage.queue.lanes import Lanes, Overview
from storage.queue.recent import Recent, recent_ends
from storage.queue.steps import Driver
from storage.queue.workers import Fleet, Workers
from storage.redis.connection import Client
from storage.wire.messages import Keys


@dataclass(frozen=True, slots=True)
class Rates:
    """All workers together, over the seconds before their last words; None where none knows.

    The mean of latencies is weighted by clips, those of tapes and devices are over workers.
    """

    clips_a_second: float
    audio_seconds_a_second: float
    latency_ms: float | None
    tape_fill: float | None
    device_share: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Lanes, workers, and the newest ends of jobs."""

    lanes: Overview
    fleet: Fleet
    recent: Recent

    @property
    def rates(self) -> Rates:
        """What the workers do together."""
        workers = self.fleet.workers
        return Rates(
            sum(each.clips_a_second or 0.0 for each in workers),
            sum(each.audio_seconds_a_second or 0.0 for each in workers),
            _mean((each.latency_ms, each.clips_a_second or 0.0) for each in workers),
            _mean((each.tape_fill, 1.0) for each in workers),
            _mean((each.device_share, 1.0) for each in workers),
        )

    def told(self) -> Mapping[str, Any]:
        """The same for programs."""
        return {
            "at_ms": self.fleet.at_ms,
            **overview_told(self.lanes),
            "rates": asdict(self.rates),
            "workers": [asdict(worker) for worker in self.fleet.workers],
            "workers_total": self.fleet.total,
            "recent": asdict(self.recent),
        }


class Looks:
    """Takes snapshots, each of three looks at Redis. Thread-safe as redis-py's client is."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._keys = keys
        self._lanes = Lanes(client, keys=keys)
        self._driver = Driver(client)
        self._workers = Workers(keys)

    def look(self) -> Snapshot:
        """How it all is now. Raises RedisError."""
        return Snapshot(
            self._lanes.look(),
            self._driver.run(self._workers.look()),
            self._driver.run(recent_ends(self._keys)),
        )


def _mean(weighted: Any) -> float | None:
    """The mean of (value, weight), without those that are None."""
    known = [(value, weight) for value, weight in weighted if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None
