"""Jobs that workers died with: each runs alone, with nothing beside it that it could take down."""

from collections.abc import Callable

import structlog

from storage.queue.entries import Begun, Delivery, Verdict
from storage.queue.streams import JobStreams
from worker.delivery.leases import Leases
from worker.pipeline.threads import Pipeline
from worker.telemetry.metrics import Metrics

_LOOK_SECONDS = 0.1  # between two looks at a pipeline that is not yet empty
# Longer than any stage may take over an ordinary file. What hangs for longer may hang for ever.
_PATIENCE_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Suspects:
    """The one that this worker holds until it has run, and those that are for others.

    Not thread-safe; owned by the intake thread.
    """

    def __init__(
        self,
        streams: JobStreams,
        pipeline: Pipeline,
        leases: Leases,
        *,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._streams = streams
        self._pipeline = pipeline
        self._leases = leases
        self._metrics = metrics
        self._clock = clock
        self._held: Delivery | None = None
        self._held_since = 0.0
        self._runs = False
        self._takes_any = True
        self._surplus: list[Delivery] = []  # to be given back

    @property
    def held(self) -> bool:
        """Whether one waits for its turn, or runs: then nothing else is taken."""
        return self._held is not None

    def wanted(self) -> int:
        """How many may be taken over from others."""
        self._takes_any |= not self._pipeline.in_flight
        return int(self._takes_any)

    def set_aside(self, begun: Begun) -> None:
        """Hold a suspect until it can run; a second one is for another worker."""
        if self._held is None and self._takes_any:
            log.info("suspect.held", job=begun.job_id)
            self._held, self._held_since = begun.delivery, self._clock()
        else:
            self._surplus.append(begun.delivery)

    def give_back(self) -> None:
        """Give back those that this worker will not run; reclaim leaves them to others."""
        if self._surplus:
            self._leases.drop(self._surplus)
            given = self._streams.give_back([(delivery, "") for delivery in self._surplus])
            self._metrics.give_backs_fenced.inc(len(self._surplus) - given)
            log.info("suspect.given_back", entries=[delivery.entry for delivery in self._surplus])
            self._surplus = []

    def step(self, run: Callable[[Begun], None], leave: Callable[[Begun], None]) -> bool:
        """One step towards the end of the one that is held; True where that has come.

        `run` is given it when nothing else is in the process, or `leave` where it is not to run.
        Raises RedisError.
        """
        suspect = self._held
        if suspect is None:
            return True
        if not self._pipeline.join(_LOOK_SECONDS):
            if not self._runs and self._clock() > self._held_since + _PATIENCE_SECONDS:
                log.error("suspect.refused", in_flight=self._pipeline.in_flight)
                self._takes_any, self._held = False, None
                self._surplus.append(suspect)
            return False
        if not self._runs:
            (begun,) = self._streams.begin([suspect], alone=True)
            if begun.verdict is Verdict.RUN:
                self._runs = True
                self._metrics.suspects.inc()
                log.warning(
                    "suspect.begun",
                    job=begun.job_id,
                    crashes=begun.crashes,
                    deliveries=begun.deliveries,
                )
                run(begun)
                return False
            leave(begun)
        self._held, self._runs = None, False
        return True
