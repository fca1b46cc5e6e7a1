"""Jobs that failed through no fault of theirs: they go back as they were, and no try is counted."""

from collections.abc import Callable, Sequence
from functools import partial

import structlog

from storage.errors import JobError
from storage.queue.entries import GivenBack
from storage.queue.streams import JobStreams
from worker.delivery.leases import Leases
from worker.fitness.guard import Excused
from worker.pipeline.task import Task
from worker.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

Persist = Callable[[Callable[[], list[GivenBack]]], list[GivenBack] | None]


class Excuses:
    """Gives excused jobs back. Thread-safe."""

    def __init__(self, streams: JobStreams, leases: Leases, *, metrics: Metrics) -> None:
        self._streams = streams
        self._leases = leases
        self._metrics = metrics

    def give_back(
        self, tasks: Sequence[tuple[Task, Excused]], persist: Persist
    ) -> list[tuple[Task, JobError]]:
        """Give them back; returns those that machines gave back too often, and what counts now.

        `persist` does it however long Redis is away; None where the worker stops first.
        """
        counted: list[tuple[Task, JobError]] = []
        for away in (False, True):
            alike = [each for each in tasks if each[1].finding.away is away]
            if not alike:
                continue
            begun = [task.ticket for task, _ in alike]
            self._leases.settling([each.delivery for each in begun])
            verdicts = persist(partial(self._streams.excuse, begun, counted=not away))
            if verdicts is None:
                break  # they stay held, to be given back at the end
            for (task, excuse), verdict in zip(alike, verdicts, strict=True):
                if verdict is GivenBack.OFTEN:
                    counted.append((task, excuse.error))
                else:
                    self._leases.drop([task.ticket.delivery])
            given = verdicts.count(GivenBack.GIVEN)
            self._metrics.excused.labels("away" if away else "sick").inc(given)
            self._metrics.give_backs_fenced.inc(verdicts.count(GivenBack.FENCED))
            log.warning("jobs.excused", jobs=given, reason=alike[0][1].finding.reason)
        return counted
