"""What any worker does for all, about every second: retries, lanes that need it, consumers."""

import random
from collections.abc import Callable, Sequence

import structlog

from storage.errors import InvalidJob
from storage.queue.healing import Healed
from storage.queue.streams import JobStreams
from storage.wire.messages import Lane, Status
from worker.telemetry.metrics import Metrics

_REAP_SECONDS = 60.0
_HEAL_SECONDS = 60.0
_JUDGE_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class Upkeep:
    """When it is due, and what was said of it. Not thread-safe; owned by the intake thread."""

    def __init__(
        self,
        streams: JobStreams,
        *,
        lease_seconds: float,
        weaknesses: Callable[[], Sequence[str]],
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        """`weaknesses` says why the server may lose jobs; it raises RedisError."""
        self._streams = streams
        self._lease_seconds = lease_seconds
        self._metrics = metrics
        self._clock = clock
        self._weaknesses = weaknesses
        self._at = self._heal_at = self._reap_at = self._judge_at = clock()
        self._told: set[Healed] = set()
        self._paused: frozenset[Lane] = frozenset()

    @property
    def in_seconds(self) -> float:
        """When it is due; 0 or less for now."""
        return self._at - self._clock()

    def put_off(self) -> None:
        """Let others come first, for one period."""
        period = min(1.0, self._lease_seconds / 4)
        self._at = self._clock() + period * random.uniform(0.75, 1.25)

    def heal_soon(self) -> None:
        """Something of a lane looks wrong: look at them all next time."""
        self._heal_at = self._clock()

    def step(self) -> None:
        """Promote retries that are due; heal lanes and reap consumers now and then."""
        now = self._clock()
        self.put_off()
        self._look_at_pauses()
        promoted = self._streams.promote()
        if promoted.postponed:
            log.error("retries.postponed", jobs=promoted.postponed, error=promoted.why)
            self.heal_soon()
        if now >= self._heal_at:
            self._heal_at = now + _HEAL_SECONDS
            self._heal()
        if now >= self._judge_at:
            self._judge_at = now + _JUDGE_SECONDS
            for why in self._weaknesses():
                log.warning("redis.not_durable", why=why)
        if now >= self._reap_at:
            self._reap_at = now + _REAP_SECONDS
            self._streams.reap(idle_seconds=max(_REAP_SECONDS, 4 * self._lease_seconds))
            if adopted := self._streams.stranded.adopt():
                log.error("entries.stranded", entries=adopted)

    def _look_at_pauses(self) -> None:
        paused = self._streams.paused()
        for lane in Lane:
            self._metrics.lane_paused.labels(lane.value).set(lane in paused)
        if paused != self._paused:
            self._paused = paused
            log.warning("lanes.paused", lanes=sorted(paused))

    def _heal(self) -> None:
        rescued = self._streams.healing.heal()
        if rescued.refused:
            self._metrics.ended.labels(Status.FAILED.value, InvalidJob.code).inc(rescued.refused)
        if rescued.entries:
            log.error("lane.rescued", entries=rescued.entries, refused=rescued.refused)
        if rescued.why:
            log.error("lane.refuses", error=rescued.why)
        for one in self._streams.healing.healed():
            if one not in self._told:
                self._told.add(one)
                log.error("stream.healed", stream=one.stream, what=one.what, at_ms=one.at_ms)
