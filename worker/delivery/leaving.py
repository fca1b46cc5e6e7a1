"""What a worker does about Redis at its end: give back what it holds, and leave the group."""

import threading
from collections.abc import Callable

import structlog

from storage.queue.streams import JobStreams
from storage.queue.workers import Words
from storage.redis.connection import RedisError
from worker.delivery.leases import Leases
from worker.telemetry.metrics import Metrics

# What a drain takes at most beyond the grace period, together with that of app.py.
_GIVE_BACK_SECONDS = 3.0
_LEAVE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Leaving:
    """Neither step waits long: where Redis hangs, the jobs wait for their leases."""

    def __init__(
        self, streams: JobStreams, leases: Leases, words: Words, *, metrics: Metrics
    ) -> None:
        self._streams = streams
        self._leases = leases
        self._words = words
        self._metrics = metrics

    def give_back(self) -> None:
        """Give back all that is held."""
        held = self._leases.take_all()

        def act() -> None:
            try:
                given = self._streams.give_back(held)
            except RedisError as error:
                # They are delivered again when the lease has run out.
                log.error("worker.kept_jobs", jobs=len(held), error=str(error))
                return
            self._metrics.give_backs_fenced.inc(len(held) - given)
            log.info("worker.gave_back", jobs=given, fenced=len(held) - given)

        if not within(_GIVE_BACK_SECONDS, act):
            log.error("worker.kept_jobs", jobs=len(held), error="Redis does not answer")

    def leave(self) -> None:
        """Be no consumer any more, and none of the workers that are told of."""

        def act() -> None:
            try:
                self._streams.leave()
                self._words.take_back()
            except RedisError as error:
                log.warning("worker.did_not_leave", error=str(error))

        if not within(_LEAVE_SECONDS, act):
            log.warning("worker.did_not_leave", error="Redis does not answer")


def within(seconds: float, act: Callable[[], None]) -> bool:
    """Do it on a thread of its own; False where it has not come to an end in that time."""
    thread = threading.Thread(target=act, name="drain", daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive()
