"""The heartbeat that keeps what this worker holds."""

import threading
import time
from collections.abc import Callable

import structlog

from storage.queue.streams import JobStreams
from storage.redis.connection import RedisError, is_outage
from worker.delivery.leases import Leases
from worker.pipeline.progress import Progress
from worker.telemetry.metrics import Metrics

_AGAIN_SECONDS = 0.5
_BEAT_SECONDS = 300.0  # each of its calls to Redis may time out

log = structlog.get_logger(__name__)


class Heartbeat:
    """Renews the leases every quarter of their length, by a thread and connection of its own."""

    def __init__(
        self,
        streams: JobStreams,
        leases: Leases,
        *,
        lease_seconds: float,
        stalled: Callable[[], bool],
        metrics: Metrics,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._streams = streams
        self._leases = leases
        self._period_seconds = lease_seconds / 4
        self._stalled = stalled
        self._metrics = metrics
        self._progress = progress or Progress(clock)
        self._clock = clock
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_seconds: float | None = None) -> None:
        """End it; whatever is held then is kept for one lease at most."""
        self._stop.set()
        self._thread.join(timeout_seconds)

    def beat(self) -> None:
        """Renew once. Raises RedisError."""
        if self._stalled():
            # The device hangs: let others have the jobs.
            log.error("heartbeat.withheld", reason="no tape has come back for too long")
            return
        now = self._clock()
        gone = self._streams.heartbeat(self._leases.renewable(now))
        # We live, and say so of what we lost, or our silence would stand as a crash.
        gone += self._streams.heartbeat(self._leases.lapsing(now), renew=False)
        lost = self._leases.lose(gone)
        if lost:
            self._metrics.lost.inc(len(lost))
            log.warning("heartbeat.lost", entries=[delivery.entry for delivery in lost])

    def _run(self) -> None:
        wait_seconds = self._period_seconds
        while not self._stop.wait(wait_seconds):
            wait_seconds = self._period_seconds
            self._progress.begin("heartbeat", _BEAT_SECONDS)
            try:
                self.beat()
                self._failing = False
            except RedisError as error:
                if not self._failing:  # once an outage
                    log.warning("heartbeat.failed", outage=is_outage(error), error=str(error))
                self._failing = True
                # A period more on top of a time-out could cost the leases.
                wait_seconds = min(self._period_seconds, _AGAIN_SECONDS)
            except Exception:
                # Without heartbeats every job of this worker would be done twice: go on.
                log.exception("heartbeat.failed")
            finally:
                self._progress.end()
