"""Takes jobs out of Redis: reads, begins, reclaims, promotes; never more than there is room for."""

import random
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from storage.connection import BLOCK_SECONDS, RedisError, is_group_missing, is_outage
from storage.errors import InvalidJob
from storage.messages import Job, Lane, parse_job
from storage.streams import Begun, Delivery, JobStreams, Verdict
from worker.leases import Leases
from worker.metrics import Metrics
from worker.pipeline import Pipeline
from worker.task import Task

_BACKOFF_SECONDS = (0.1, 5.0)
_REAP_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Intake:
    """One thread that keeps the pipeline fed. Runs until `stop`."""

    def __init__(
        self,
        streams: JobStreams,
        pipeline: Pipeline,
        leases: Leases,
        *,
        lease_seconds: float,
        max_job_bytes: int,
        uptime_seconds: Callable[[], float],
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._streams = streams
        self._pipeline = pipeline
        self._leases = leases
        self._lease_seconds = lease_seconds
        self._max_job_bytes = max_job_bytes
        self._uptime_seconds = uptime_seconds
        self._metrics = metrics
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._delivered: list[Delivery] = []  # held, and not yet begun
        self._outage_since: float | None = None
        self._upkeep_at = clock()
        self._reclaim_at = clock()
        self._reap_at = clock()

    def start(self) -> None:
        """Create the group and start the thread. Raises RedisError."""
        self._streams.create_group()
        self._mind_restart()
        self._thread.start()

    def stop(self) -> None:
        """Read nothing more; returns when the thread has ended."""
        self._stop.set()
        self._thread.join()

    @property
    def connected(self) -> bool:
        """Whether Redis answered last time."""
        return self._outage_since is None

    def step(self) -> None:
        """One round. Raises RedisError; what was delivered and not begun is kept for the next."""
        if self._clock() >= self._upkeep_at:
            self._upkeep()
        room = self._pipeline.room() - len(self._delivered)
        if not self._delivered and room >= len(Lane):
            self._receive(self._streams.read(room))
            if not self._delivered:
                block = min(BLOCK_SECONDS, max(0.01, self._upkeep_at - self._clock()))
                self._receive(self._streams.read_blocking(room, block_seconds=block))
        elif not self._delivered:
            self._pipeline.wait_for_room(len(Lane), timeout_seconds=0.1)
        self._begin()

    def _run(self) -> None:
        wait_seconds = _BACKOFF_SECONDS[0]
        while not self._stop.is_set():
            try:
                self.step()
            except RedisError as error:
                if is_group_missing(error):
                    self._rejoin()
                else:
                    wait_seconds = self._failed(error, wait_seconds)
            except Exception:
                # A worker that lives but takes no jobs would be missed by nobody: go on.
                log.exception("intake.failed")
                wait_seconds = self._wait(wait_seconds)
            else:
                wait_seconds = _BACKOFF_SECONDS[0]
                self._recovered()

    def _receive(self, deliveries: Sequence[Delivery]) -> None:
        self._leases.hold(deliveries)
        self._delivered += deliveries

    def _begin(self) -> None:
        if not self._delivered:
            return
        verdicts = self._streams.begin(self._delivered)
        self._delivered = []
        for begun in verdicts:
            if begun.verdict is Verdict.RUN:
                self._submit(begun)
            else:
                self._leases.drop([begun.delivery])
                self._metrics.dropped.labels(begun.verdict.value).inc()
                log.info("job.not_run", job=begun.job_id, verdict=begun.verdict.value)

    def _submit(self, begun: Begun) -> None:
        try:
            fields = begun.delivery.fields
            job = parse_job(begun.job_id, fields, max_job_bytes=self._max_job_bytes)
            task = Task(job, value=job, ticket=begun)
        except InvalidJob as error:
            task = Task(Job(begun.job_id, key=""), value=None, ticket=begun, error=error)
        task.milliseconds["queue"] = max(0.0, time.time() * 1000 - begun.enqueued_ms)
        self._leases.begun(begun.delivery, task)
        self._pipeline.submit(task)

    def _upkeep(self) -> None:
        """Promote retries that are due, take over what was abandoned, reap silent consumers."""
        now = self._clock()
        period = min(1.0, self._lease_seconds / 4)
        self._upkeep_at = now + period * random.uniform(0.75, 1.25)
        self._streams.promote()
        room = self._pipeline.room() - len(self._delivered)
        if room > 0:
            # Not before it is known how long Redis was away: see `_recovered`.
            patient = now < self._reclaim_at or not self.connected
            found = self._streams.reclaim(room, given_back_only=patient)
            self._receive(found.deliveries)
            self._metrics.reclaimed.inc(len(found.deliveries))
            if found.deliveries or found.gone or found.dead:
                log.warning(
                    "entries.reclaimed",
                    entries=len(found.deliveries),
                    gone=found.gone,
                    dead=found.dead,
                )
        if now >= self._reap_at:
            self._reap_at = now + _REAP_SECONDS
            self._streams.reap(idle_seconds=max(_REAP_SECONDS, 4 * self._lease_seconds))

    def _failed(self, error: RedisError, wait_seconds: float) -> float:
        """Redis did not do what was asked: say so, wait, and return the next wait."""
        if self._outage_since is None:
            self._outage_since = self._clock()
            self._metrics.outages.inc()
        event = "redis.away" if is_outage(error) else "redis.refuses"
        log.error(event, error=str(error), retry_seconds=round(wait_seconds, 1))
        return self._wait(wait_seconds)

    def _wait(self, seconds: float) -> float:
        """Wait, and return the next wait."""
        self._stop.wait(seconds * random.uniform(0.75, 1.25))
        return min(_BACKOFF_SECONDS[1], 2 * seconds)

    def _recovered(self) -> None:
        if self._outage_since is None:
            return
        away_seconds = self._clock() - self._outage_since
        self._outage_since = None
        log.info("redis.back", away_seconds=round(away_seconds, 1))
        if away_seconds > self._lease_seconds / 4:
            self._pause_reclaim(self._lease_seconds)
        self._mind_restart()

    def _rejoin(self) -> None:
        """The group is gone: a flushed or failed-over server."""
        log.warning("redis.group_missing", action="create it again at 0")
        try:
            self._streams.create_group()
        except RedisError as error:
            self._failed(error, _BACKOFF_SECONDS[0])

    def _mind_restart(self) -> None:
        """After a restart all leases look run out, though their workers live."""
        try:
            self._pause_reclaim(self._lease_seconds - self._uptime_seconds())
        except RedisError as error:
            log.warning("redis.uptime_unknown", error=str(error))
            self._pause_reclaim(self._lease_seconds)

    def _pause_reclaim(self, seconds: float) -> None:
        self._reclaim_at = max(self._reclaim_at, self._clock() + seconds)
