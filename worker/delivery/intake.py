"""Takes jobs out of Redis: reads, begins, reclaims, promotes; never more than there is room for."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from storage.errors import CrashLoop, InvalidJob
from storage.queue.entries import Begun, Delivery, Verdict
from storage.queue.streams import JobStreams
from storage.redis.connection import (
    BLOCK_SECONDS,
    RedisError,
    ReplyTooLarge,
    is_group_missing,
    is_outage,
)
from storage.wire.messages import Job, Lane, Status, parse_job
from worker.delivery.leases import Leases
from worker.delivery.outages import Outages
from worker.delivery.suspects import Suspects
from worker.delivery.upkeep import Upkeep
from worker.fitness.breaker import Breaker
from worker.pipeline.progress import Progress
from worker.pipeline.task import Task
from worker.pipeline.threads import Pipeline
from worker.telemetry.metrics import Metrics

_BACKOFF_SECONDS = (0.1, 5.0)
_DAY_SECONDS = 86_400.0
_ROUND_SECONDS = 300.0  # each of its calls to Redis may time out
_LOOK_SECONDS = 0.1  # between two looks at a pipeline that is full
# One that is nearly full has enough to do while room for more than a few jobs comes about: to read
# and to begin a few takes as many round trips as a dozen.
_ROOM_SHARE = 8
_GATHER_SECONDS = 0.2

log = structlog.get_logger(__name__)


class Intake:
    """One thread that keeps the pipeline fed. Runs until `stop`."""

    def __init__(
        self,
        streams: JobStreams,
        pipeline: Pipeline,
        leases: Leases,
        breaker: Breaker,
        *,
        lease_seconds: float,
        max_job_bytes: int,
        uptime_seconds: Callable[[], float],
        weaknesses: Callable[[], Sequence[str]],
        metrics: Metrics,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._streams = streams
        self._pipeline = pipeline
        self._leases = leases
        self._breaker = breaker
        self._lease_seconds = lease_seconds
        self._max_job_bytes = max_job_bytes
        self._uptime_seconds = uptime_seconds
        self._metrics = metrics
        self._clock = clock
        self._progress = progress or Progress(clock)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._delivered: list[Delivery] = []  # held, and not yet begun
        self._worth_reading = max(len(Lane), pipeline.capacity // _ROOM_SHARE)
        self._suspects = Suspects(streams, pipeline, leases, metrics=metrics, clock=clock)
        self._outages = Outages(metrics=metrics, clock=clock)
        self._upkeep = Upkeep(
            streams,
            lease_seconds=lease_seconds,
            weaknesses=weaknesses,
            metrics=metrics,
            clock=clock,
        )
        # What was abandoned comes before what is new: nothing is read before a look that is owed.
        self._look_owed = False
        self._reclaim_at = clock()

    def start(self) -> None:
        """Create the group and start the thread. Raises RedisError."""
        try:
            self._streams.create_group()
        except RedisError as error:
            if not is_outage(error):
                raise
            # Most likely it is there, and Redis full. If not, the first round says so.
            log.warning("redis.group_unknown", error=str(error))
        self._mind_restart()
        self._thread.start()

    def stop(self, timeout_seconds: float | None = None) -> bool:
        """Submit nothing more; False where the thread has not ended in that time."""
        self._stop.set()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def connected(self) -> bool:
        """Whether jobs are being taken: the thread runs, and Redis answered last time."""
        return self._thread.is_alive() and not self._outages.under_way

    def step(self) -> None:
        """One round. Raises RedisError; what was delivered and not begun is kept for the next."""
        # In an outage every round asks Redis: one that does not would take it to be back.
        if self._upkeep.in_seconds <= 0 or self._outages.under_way:
            self._look_owed = True
            self._upkeep.step()
        self._take_over()
        self._suspects.give_back()
        if self._suspects.held:
            if self._suspects.step(self._run_alone, self._do_not_run):
                # Others come first now, or a row of suspects would keep them out.
                self._upkeep.put_off()
                self._look_owed = False
            return
        if self._breaker.open and not self._delivered:
            self._breaker.wait_until_closed(_LOOK_SECONDS)
        elif not self._delivered:
            self._pipeline.wait_for_room(self._worth_reading, timeout_seconds=_GATHER_SECONDS)
            self._take_over()  # where there was no room for it before
            if (room := self._pipeline.room()) >= len(Lane) and not self._delivered:
                self._read(room)
        self._begin()

    def _run(self) -> None:
        wait_seconds = _BACKOFF_SECONDS[0]
        while not self._stop.is_set():
            self._progress.begin("intake", _ROUND_SECONDS)
            try:
                self.step()
            except RedisError as error:
                if is_group_missing(error):
                    self._rejoin()
                else:
                    self._outages.failed(error)
                    wait_seconds = self._wait(wait_seconds)
            except Exception:
                # A worker that lives but takes no jobs would be missed by nobody: go on.
                log.exception("intake.failed")
                wait_seconds = self._wait(wait_seconds)
            else:
                wait_seconds = _BACKOFF_SECONDS[0]
                self._answered()
        self._progress.end()

    def _read(self, room: int) -> None:
        """Receive what is new, or wait for it."""
        try:
            self._receive(self._streams.read(room))
            if not self._delivered:
                block = min(BLOCK_SECONDS, max(0.01, self._upkeep.in_seconds))
                self._receive(self._streams.read_blocking(room, block_seconds=block))
        except ReplyTooLarge as error:
            # The server has given us what we did not take: one of it is oversized, or several.
            log.warning("redis.reply_refused", error=str(error))
            self._receive(self._streams.recover(self._leases.holds_entry, room))

    def _receive(self, deliveries: Sequence[Delivery]) -> None:
        new = self._leases.hold([each for each in deliveries if not each.oversized])
        if any(each.added_seconds > time.time() + _DAY_SECONDS for each in new):
            self._upkeep.heal_soon()  # all that is added to that lane gets such ids
        # One that was lost, and has come back before it was begun, is begun once.
        again = {(delivery.lane, delivery.entry) for delivery in new}
        kept = [each for each in self._delivered if (each.lane, each.entry) not in again]
        self._delivered = kept + new
        if oversized := [each for each in deliveries if each.oversized]:
            self._refused(self._streams.refuse(oversized))

    def _refused(self, entries: int) -> None:
        """So many entries were oversized, and have ended."""
        if entries:
            self._metrics.ended.labels(Status.FAILED.value, InvalidJob.code).inc(entries)
            log.warning("entries.oversized", entries=entries)

    def _begin(self) -> None:
        if not self._delivered:
            return
        for begun in self._streams.begin(self._delivered):
            # One at a time: what an error leaves here is begun again, which changes nothing.
            self._delivered.remove(begun.delivery)
            with self._or_let_go(begun.delivery):
                if begun.verdict is Verdict.RUN:
                    self._submit(begun)
                elif begun.verdict is Verdict.SUSPECT:
                    self._suspects.set_aside(begun)
                else:
                    self._do_not_run(begun)

    @contextmanager
    def _or_let_go(self, delivery: Delivery) -> Iterator[None]:
        """Where it fails within, the entry is held no more: its lease runs out."""
        try:
            yield
        except Exception:
            self._leases.drop([delivery])
            raise

    def _do_not_run(self, begun: Begun) -> None:
        self._leases.drop([begun.delivery])
        self._metrics.dropped.labels(begun.verdict.value).inc()
        log.info("job.not_run", job=begun.job_id, verdict=begun.verdict.value)

    def _run_alone(self, begun: Begun) -> None:
        with self._or_let_go(begun.delivery):
            self._submit(begun, alone=True)

    def _submit(self, begun: Begun, *, alone: bool = False) -> None:
        try:
            listed = begun.delivery.listed
            job = parse_job(begun.job_id, listed, max_job_bytes=self._max_job_bytes)
            task = Task(job, value=job, ticket=begun, alone=alone)
        except InvalidJob as error:
            task = Task(Job(begun.job_id, key=""), value=None, ticket=begun, error=error)
        task.milliseconds["queue"] = max(0.0, time.time() * 1000 - begun.enqueued_ms)
        self._leases.begun(begun.delivery, task)
        if not self._stop.is_set():  # else it is given back with all the rest
            self._pipeline.submit(task)

    def _take_over(self) -> None:
        """Take over what was abandoned, where a look is owed, and as far as there is room."""
        if not self._look_owed or self._breaker.open or self._suspects.held:
            return
        if (room := self._pipeline.room() - len(self._delivered)) > 0:
            self._reclaim(room)

    def _reclaim(self, room: int) -> None:
        # Not before it is known how long Redis was away: see `_answered`.
        patient = self._clock() < self._reclaim_at or self._outages.under_way
        found = self._streams.reclaim(
            room, suspects=self._suspects.wanted(), given_back_only=patient
        )
        self._receive(found.deliveries)
        # As long as there was more than room for it: what is new would stream past it.
        self._look_owed = len(found.deliveries) == room
        if found.held_up:
            self._pause_reclaim(self._lease_seconds)
        self._metrics.reclaimed.inc(len(found.deliveries))
        self._refused(found.refused)
        if found.deliveries or found.gone or found.held_up:
            log.warning(
                "entries.reclaimed",
                entries=len(found.deliveries),
                gone=found.gone,
                held_up=found.held_up,
            )
        for job in found.dead:
            self._metrics.ended.labels(Status.DEAD.value, CrashLoop.code).inc()
            log.error("job.crash_looped", job=job)

    def _wait(self, seconds: float) -> float:
        """Wait, and return the next wait."""
        self._stop.wait(seconds * random.uniform(0.75, 1.25))
        return min(_BACKOFF_SECONDS[1], 2 * seconds)

    def _answered(self) -> None:
        """A round went well: whatever outage there was is over."""
        away_seconds = self._outages.answered()
        if away_seconds is None:
            return
        if away_seconds > self._lease_seconds / 4:
            self._pause_reclaim(self._lease_seconds)
        self._mind_restart()

    def _rejoin(self) -> None:
        """The group is gone: a flushed or failed-over server."""
        log.warning("redis.group_missing", action="create it again at 0")
        try:
            self._streams.create_group()
        except RedisError as error:
            self._outages.failed(error)
            self._wait(_BACKOFF_SECONDS[0])

    def _mind_restart(self) -> None:
        """After a restart all leases look run out, though their workers live."""
        try:
            self._pause_reclaim(self._lease_seconds - self._uptime_seconds())
        except RedisError as error:
            log.warning("redis.uptime_unknown", error=str(error))
            self._pause_reclaim(self._lease_seconds)

    def _pause_reclaim(self, seconds: float) -> None:
        self._reclaim_at = max(self._reclaim_at, self._clock() + seconds)
