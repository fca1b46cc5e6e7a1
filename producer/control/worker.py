"""The worker of rq: in this process, one job at a time, and ended within a second."""

from collections.abc import Callable
from threading import Event
from typing import Any

from rq import SimpleWorker
from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from producer.control.jobs import JOB_SECONDS, ControlQueue
from storage.redis.connection import Client, RedisError

_MAINTENANCE_SECONDS = 10
_WORKER_TTL_SECONDS = 60
_GRACE_SECONDS = 10  # between the end of a job's time and somebody else taking it for abandoned
_IDLE_SECONDS = 1  # a blocking read; then it looks whether it is to stop
_LOCK_LOOKS = 5  # seconds between two looks for who has the lock


class ControlWorker(SimpleWorker):
    """Runs the jobs of one queue until `stop` is set, also while Redis is away.

    It takes no orders by Redis' channels, as rq's do, and leaves signals to the program.
    """

    max_connection_wait_time = 5.0  # rq sleeps so long while Redis is away, deaf to `stop`

    def __init__(self, queue: ControlQueue, stop: Event, *, failed: Callable[..., bool]) -> None:
        """`failed` is told of each try that raised: the job, then what `sys.exc_info` has."""
        super().__init__(
            [queue],
            connection=queue.connection,
            job_class=queue.job_class,
            queue_class=ControlQueue,
            serializer=JSONSerializer,
            exception_handlers=[failed],
            maintenance_interval=_MAINTENANCE_SECONDS,
            worker_ttl=_WORKER_TTL_SECONDS,
            log_job_description=False,
        )
        self._stop = stop

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """Wait for a job. Raises StopRequested at the end."""
        while not self._stop.is_set():
            idle = None if timeout is None else _IDLE_SECONDS
            found = super().dequeue_job_and_maintain_ttl(idle, idle)
            if found is not None or timeout is None:
                return found
        raise StopRequested

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Say that it lives. Raises StopRequested where Redis is away at the end."""
        try:
            super().heartbeat(timeout, pipeline)
        except RedisError:
            if self._stop.is_set():
                raise StopRequested from None
            raise

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """Seconds after which a job whose worker is dead is anybody's: rq's own add a minute."""
        return int(job.timeout or JOB_SECONDS) + _GRACE_SECONDS

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Tell `failed` alone: rq would log the arguments."""
        for handler in self._exc_handlers:
            handler(job, *exc_info)

    def subscribe(self) -> None:
        """Nothing: whoever may publish could end it."""

    def procline(self, message: str) -> None:
        """Nothing: the process keeps its name."""

    def _install_signal_handlers(self) -> None:
        """Nothing: the program has its own."""


class ControlScheduler(RQScheduler):
    """Puts jobs into the queue when they are due, on a thread: rq's forks a process."""

    def __init__(self, queue: ControlQueue, client: Client) -> None:
        super().__init__([queue], client, serializer=JSONSerializer, logging_level="WARNING")
        self._client = client

    @property
    def connection(self) -> Client:
        """The client that it was given."""
        return self._client

    def __call__(self, stop: Event) -> None:
        """Work until `stop` is set, wherever no other control does it already."""
        rq: Any = super()  # which has no types for these
        self.register_birth()
        seconds = 0
        try:
            while not stop.wait(self.interval):
                if not self.acquired_locks and seconds % _LOCK_LOOKS == 0:
                    rq.acquire_locks()
                seconds += self.interval
                rq.heartbeat()
                if self.acquired_locks:
                    rq.enqueue_scheduled_jobs()
        finally:
            rq.stop()
