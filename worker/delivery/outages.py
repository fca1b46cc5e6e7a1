"""Whether Redis does what is asked of it, said once when that changes."""

from collections.abc import Callable

import structlog

from storage.redis.connection import RedisError, is_outage
from worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)


class Outages:
    """What became of each round of the intake. Owned by its thread; any may ask `under_way`."""

    def __init__(self, *, metrics: Metrics, clock: Callable[[], float]) -> None:
        self.under_way = False
        self._metrics = metrics
        self._clock = clock
        self._said = ""  # of the outage
        self._answered_at = clock()

    def failed(self, error: RedisError) -> None:
        """Redis did not do what was asked: an outage, if there was none."""
        if not self.under_way:
            self.under_way = True
            self._metrics.outages.inc()
        event = "redis.away" if is_outage(error) else "redis.refuses"
        if event != self._said:  # once an outage
            log.error(event, error=str(error))
        self._said = event

    def answered(self) -> float | None:
        """A round went well. The seconds that Redis was away, where that ends an outage."""
        # A call that hung was part of it, so it began at the last answer, not at the first error.
        away_seconds, self._answered_at = self._clock() - self._answered_at, self._clock()
        if not self.under_way:
            return None
        self.under_way, self._said = False, ""
        log.info("redis.back", away_seconds=round(away_seconds, 1))
        return away_seconds
