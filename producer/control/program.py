"""Control from start to end: rq's worker on the main thread, the parts' threads beside it."""

import logging
import signal
import time
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Any

import structlog
from rq.exceptions import AbandonedJobError, DeserializationError

from producer.client import Client, Contract
from producer.control.context import Context, Part
from producer.control.jobs import ControlJob, ControlQueue, NotListed, jobs_of
from producer.control.parts import PARTS
from producer.control.settings import ControlSettings
from producer.control.worker import ControlScheduler, ControlWorker
from storage.errors import JobError
from storage.redis.connection import RedisError, UnfitServer, check_server, connect

NAME = "emostream-control"
_AGAIN_SECONDS = 2.0  # after a fault, or while Redis is away
_JOIN_SECONDS = 5.0
_TELL_SECONDS = 60.0  # between two lines that say that Redis is away

# Anything else is a fault of ours, and has a traceback.
_EXPECTED = (JobError, RedisError, NotListed, DeserializationError, AbandonedJobError)

log = structlog.get_logger(__name__)


class _ToStructlog(logging.Handler):
    """What rq says to its own logs."""

    def emit(self, record: logging.LogRecord) -> None:
        log.warning("control.rq_said", logger=record.name, text=record.getMessage())


def check(settings: ControlSettings) -> None:
    """Reach both servers. Raises RedisError, UnfitServer."""
    with Client(settings.redis_url, Contract.of(settings), name=NAME) as client:
        client.check()
    with connect(settings.rq_url, name=NAME) as rq:
        try:
            check_server(rq, settings.prefix)
        except UnfitServer as error:
            raise UnfitServer(f"EMO_CONTROL_REDIS_URL: {error}") from error
        if rq.info("server").get("redis_mode") == "cluster":
            raise UnfitServer("EMO_CONTROL_REDIS_URL: rq has no Redis Cluster")


def run(
    settings: ControlSettings,
    *,
    stop: Event | None = None,
    parts: Sequence[Callable[[Context], Part]] = PARTS,
) -> None:
    """Work until SIGTERM or SIGINT, on the main thread; the job at hand is ended first."""
    stop = stop or Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _quieten_rq()
    with (
        Client(settings.redis_url, Contract.of(settings), name=NAME) as client,
        connect(settings.rq_url, name=NAME) as rq,
        connect(settings.rq_url, name=NAME) as of_scheduler,
    ):
        functions: dict[str, Callable[..., Any]] = {}
        queue = ControlQueue(settings.prefix, rq, job_class=jobs_of(functions))
        threads: list[Callable[[Event], None]] = [ControlScheduler(queue, of_scheduler)]
        for part in parts:
            made = part(Context(settings, client, queue))
            functions |= made.functions
            threads += made.threads
        beside = [
            Thread(target=_keep, args=(each, stop), name=_name(each), daemon=True)
            for each in threads
        ]
        for thread in beside:
            thread.start()
        log.info("control.ready", queue=queue.name, functions=sorted(functions))
        try:
            _serve(queue, stop)
        finally:
            stop.set()
            for thread in beside:
                thread.join(_JOIN_SECONDS)
        hanging = [thread.name for thread in beside if thread.is_alive()]
        log.info("control.stopped", hanging=hanging)


def _serve(queue: ControlQueue, stop: Event) -> None:
    """Run jobs. A worker of rq's ends where Redis is away: then there is a new one."""
    away = False
    while not stop.is_set():
        try:
            worker = ControlWorker(queue, stop, failed=_failed)
            if away:
                log.info("control.redis_back")
                away = False
            worker.work(logging_level="WARNING")
        except RedisError as error:
            if not away:
                log.error("control.redis_away", error=str(error))
                away = True
        stop.wait(_AGAIN_SECONDS)


def _keep(run_part: Callable[[Event], None], stop: Event) -> None:
    """Run it until the end, again and again where it raises."""
    tell_at = 0.0
    while not stop.is_set():
        try:
            run_part(stop)
        except RedisError as error:
            if time.monotonic() >= tell_at:
                log.error("control.part_waits", part=_name(run_part), error=str(error))
                tell_at = time.monotonic() + _TELL_SECONDS
        except Exception:
            log.exception("control.part_failed", part=_name(run_part))
        stop.wait(_AGAIN_SECONDS)


def _failed(job: ControlJob, kind: type[BaseException], error: BaseException, _: Any) -> bool:
    """Log a try that raised; rq does the rest."""
    expected = isinstance(error, _EXPECTED)
    log.warning(
        "control.job_failed",
        job=job.id,
        tries_left=job.retries_left or 0,
        error=f"{kind.__name__}: {error}",
        exc_info=None if expected else error,
    )
    return True


def _name(run_part: Callable[[Event], None]) -> str:
    return getattr(run_part, "__name__", type(run_part).__name__)


def _quieten_rq() -> None:
    """Its logs come as events of ours, warnings and errors alone."""
    logger = logging.getLogger("rq")
    logger.handlers = [_ToStructlog()]
    logger.propagate = False
    logger.setLevel(logging.WARNING)
