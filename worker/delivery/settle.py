"""The end of every task: outputs to the store, then the result, the retry or the dead letter."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog

from storage.errors import DeadlineExceeded, Internal, JobError
from storage.queue.entries import Begun, Ending, Outcome
from storage.queue.streams import JobStreams
from storage.redis.connection import RedisError, is_outage
from storage.wire.messages import Status
from worker.delivery.excuses import Excuses
from worker.delivery.leases import Leases
from worker.delivery.results import Results
from worker.fitness.guard import Excused
from worker.pipeline.task import Task
from worker.telemetry.metrics import Metrics

_LONGEST_RETRY_SECONDS = 60.0
_OUTAGE_WAIT_SECONDS = 0.5
_ERROR_CHARACTERS = 500

log = structlog.get_logger(__name__)

Reply = TypeVar("Reply")


class Settle:
    """Called by the settle threads with tasks that have ended. Thread-safe."""

    def __init__(
        self,
        streams: JobStreams,
        leases: Leases,
        results: Results,
        *,
        max_attempts: int,
        retry_seconds: float,
        metrics: Metrics,
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        """`moved` is told at each step of a call, which may have to wait for Redis."""
        self._streams = streams
        self._leases = leases
        self._results = results
        self._max_attempts = max_attempts
        self._retry_seconds = retry_seconds
        self._metrics = metrics
        self._moved = moved
        self._excuses = Excuses(streams, leases, metrics=metrics)
        self._stopping = threading.Event()
        self._waiting = False

    def stop(self) -> None:
        """Wait for no outage any more; what is unsettled stays held, to be given back."""
        self._stopping.set()

    def __call__(self, tasks: Sequence[Task]) -> None:
        """Settle the tasks: those whose entry is another worker's by now are dropped."""
        try:
            self._settle(tasks)
        except Exception:
            log.exception("settle.failed", jobs=[task.job.id for task in tasks])
            # One of them is to blame. Those that are settled by now are held no more.
            for task in tasks:
                if self._leases.holds(task.ticket.delivery):
                    self._settle_alone(task)

    def _settle_alone(self, task: Task) -> None:
        try:
            self._settle([task])
        except Exception:
            log.exception("settle.failed", jobs=[task.job.id])
            # Its lease runs out, and it is delivered again.
            self._leases.let_lapse(task.ticket.delivery)

    def _settle(self, tasks: Sequence[Task]) -> None:
        ends: list[tuple[Task, Ending | JobError]] = []
        excused: list[tuple[Task, Excused]] = []
        for task in tasks:
            if task.abandoned:
                self._metrics.fenced.inc()
                continue
            end = self._ending(task)
            if isinstance(end, Excused):
                excused.append((task, end))
            else:
                ends.append((task, end))
        for task, error in self._excuses.give_back(excused, self._persist):
            task.error = error
            ends.append((task, self._failure(task, error)))
        endings: list[tuple[Task, Ending]] = []
        for task, end in ends:
            if isinstance(end, JobError):
                self._retry(task, end)
            else:
                endings.append((task, end))
        if endings:
            self._finish(endings)

    def _finish(self, endings: list[tuple[Task, Ending]]) -> None:
        """End the jobs; those that the server refuses for now are asked for again."""
        self._leases.settling([task.ticket.delivery for task, _ in endings])
        while endings:
            asked = [(task.ticket, ending) for task, ending in endings]
            outcomes = self._persist(partial(self._streams.finish, asked))
            if outcomes is None:
                return
            refused = []
            for asked_for, outcome in zip(endings, outcomes, strict=True):
                if isinstance(outcome, Outcome):
                    self._record(*asked_for, outcome)
                else:
                    refused.append((asked_for, outcome))
            if refused and self._wait(refused[-1][1]):
                return
            endings = [asked_for for asked_for, _ in refused]

    def _ending(self, task: Task) -> Ending | JobError:
        """How the task ends; an error where it is to be tried again."""
        self._moved()
        try:
            if task.error is not None:
                raise task.error
            fields = {"key": task.job.key, **self._results.fields(task)}
            return Ending(Status.DONE, fields, common=self._results.common)
        except JobError as error:
            task.error = error
        except Exception as error:
            log.exception("settle.result_failed", job=task.job.id)
            task.error = Internal(f"settle: {type(error).__name__}: {error}")
        return self._failure(task, task.error)

    def _failure(self, task: Task, error: JobError) -> Ending | JobError:
        if isinstance(error, Excused):
            return error
        fields = {"key": task.job.key, "error_code": error.code, "error": _message(error)}
        if isinstance(error, DeadlineExceeded):
            return Ending(Status.EXPIRED, fields)
        if not error.retryable:
            return Ending(Status.FAILED, fields)
        if task.ticket.attempts >= self._max_attempts:
            return Ending(Status.DEAD, fields, dead_reason=error.code)
        return error

    def _retry(self, task: Task, error: JobError) -> None:
        begun: Begun = task.ticket
        delay = min(_LONGEST_RETRY_SECONDS, self._retry_seconds * 2 ** (begun.attempts - 1))
        delay *= random.uniform(0.5, 1.0)
        self._leases.settling([begun.delivery])
        outcome = self._persist(
            lambda: self._streams.retry(
                begun,
                delay_seconds=delay,
                code=error.code,
                message=_message(error),
            )
        )
        if outcome is None:
            return
        self._leases.drop([begun.delivery])
        if outcome is Outcome.RETRYING:
            self._metrics.retried.labels(error.code).inc()
            log.warning(
                "job.retry_scheduled",
                job=begun.job_id,
                code=error.code,
                error=str(error),
                attempt=begun.attempts,
                delay_seconds=round(delay, 2),
            )
        elif outcome is Outcome.FENCED:
            self._metrics.retries_fenced.inc()
            log.warning("job.result_dropped", job=begun.job_id, outcome=outcome.value)
        elif outcome is Outcome.EXPIRED:
            self._metrics.ended.labels(Status.EXPIRED.value, DeadlineExceeded.code).inc()

    def _record(self, task: Task, ending: Ending, outcome: Outcome) -> None:
        begun: Begun = task.ticket
        self._leases.drop([begun.delivery])
        if outcome is not Outcome.SETTLED:
            self._metrics.fenced.inc(outcome is Outcome.FENCED)
            log.warning("job.result_dropped", job=begun.job_id, outcome=outcome.value)
            return
        code = task.error.code if task.error else ""
        self._metrics.ended.labels(ending.status.value, code).inc()
        self._metrics.job_seconds.observe(time.monotonic() - task.began_at)
        self._metrics.queue_seconds.observe(task.milliseconds.get("queue", 0.0) / 1000)
        if ending.status is Status.DONE:
            self._metrics.audio_seconds.inc(task.value.duration_seconds)
            self._metrics.batch_clips.observe(task.batch_clips)
            log.debug("job.done", job=begun.job_id, label=task.value.prediction.label)
        else:
            log.warning(
                "job.not_done",
                job=begun.job_id,
                status=ending.status.value,
                code=code,
                error=str(task.error),
            )

    def _persist(self, act: Callable[[], Reply]) -> Reply | None:
        """Do it, however long Redis is away; None where the worker stops first."""
        while True:
            try:
                reply = act()
            except RedisError as error:
                if self._wait(error):
                    return None
            else:
                self._waiting = False
                return reply

    def _wait(self, error: RedisError) -> bool:
        """Let Redis be for a moment; True where the worker stops meanwhile."""
        self._moved()
        if not self._waiting:  # once an outage
            log.error("settle.waiting", outage=is_outage(error), error=str(error))
        self._waiting = True
        return self._stopping.wait(_OUTAGE_WAIT_SECONDS)


def _message(error: JobError) -> str:
    """The error's text as it can be stored: not too long, and UTF-8 whatever is quoted in it."""
    return str(error)[:_ERROR_CHARACTERS].encode("utf-8", "backslashreplace").decode()
