"""An intake on a real server, with a pipeline that keeps what it is given."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from storage.queue.entries import Begun, Delivery, Promoted, Reclaimed
from storage.queue.streams import JobStreams
from storage.redis.connection import connect
from storage.wire.messages import Keys, Lane
from tests.support.fitness import Fitness
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.stream_workers import lapse, new_streams
from worker.delivery.intake import Intake
from worker.delivery.leases import Leases
from worker.fitness.breaker import Breaker
from worker.pipeline.task import Task
from worker.pipeline.threads import Pipeline
from worker.telemetry.metrics import Metrics

KEYS = Keys("emo")


class Clock:
    """Time that passes when told to, and by `tick` with every look at it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.tick = 0.0

    def __call__(self) -> float:
        """Seconds."""
        self.now += self.tick
        return self.now


class Room:
    """A pipeline that keeps what it is given, and has places for `capacity`."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tasks: list[Task] = []
        self.waited_for: list[int] = []
        self.leaving = 0  # so many leave whenever room is waited for
        self.left: list[str] = []

    def room(self) -> int:
        """Free places."""
        return self.capacity - len(self.tasks)

    @property
    def in_flight(self) -> int:
        """What it keeps."""
        return len(self.tasks)

    def wait_for_room(self, tasks: int, timeout_seconds: float) -> None:
        """Nothing leaves while a test looks on, unless it says so: note what for."""
        self.waited_for.append(tasks)
        self.left += self.jobs[: self.leaving]
        del self.tasks[: self.leaving]

    def join(self, timeout_seconds: float) -> bool:
        """Whether it is empty."""
        return not self.tasks

    def submit(self, task: Task) -> None:
        """Keep."""
        assert self.room() > 0
        self.tasks.append(task)

    @property
    def jobs(self) -> list[str]:
        """Ids of what was submitted, in order."""
        return [task.job.id for task in self.tasks]


class Streams(JobStreams):
    """The real protocol, with faults on request, and a note of every reclaim."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.faults: list[Exception] = []  # instead of a begin
        self.late_faults: list[Exception] = []  # after a begin: its reply is lost
        self.meanwhile: Callable[[], None] = lambda: None  # before a blocking read returns
        self.away = False  # whether upkeep finds no server
        self.unanswered = 0
        self.reclaims: list[bool] = []  # whether each took only what was given back

    def promote(self, limit: int = 1000, *, postpone_seconds: float = 5.0) -> Promoted:
        """Promote, where there is a server."""
        if self.away:
            self.unanswered += 1
            raise RedisConnectionError("reset")
        return super().promote(limit, postpone_seconds=postpone_seconds)

    def begin(self, deliveries: Any, *, alone: bool = False) -> list[Begun]:
        """Begin, or fail before or after."""
        if self.faults:
            raise self.faults.pop(0)
        begun = super().begin(deliveries, alone=alone)
        if self.late_faults:
            raise self.late_faults.pop(0)
        return begun

    def read_blocking(self, free: int, *, block_seconds: float) -> list[Delivery]:
        """Read what has arrived by now."""
        self.meanwhile()
        return super().read_blocking(free, block_seconds=block_seconds)

    def reclaim(self, limit: int, *, suspects: int = 1, given_back_only: bool = False) -> Reclaimed:
        """Reclaim."""
        self.reclaims.append(given_back_only)
        return super().reclaim(limit, suspects=suspects, given_back_only=given_back_only)


class Host:
    """An intake and what it feeds."""

    def __init__(
        self,
        url: str,
        *,
        owner: str = "me",
        capacity: int = 100,
        lease_seconds: float = 0.1,
        robbed_after_seconds: float = 30,
    ) -> None:
        """`robbed_after_seconds` is the idle time, of the server's clock, that it reclaims at."""
        self.client: Any = connect(url, name="test-intake", timeout_seconds=TIMEOUT_SECONDS)
        self.streams = self.worker(owner, robbed_after_seconds)
        self.room = Room(capacity)
        self.leases = Leases()
        self.metrics = Metrics()
        self.clock = Clock()
        self.fitness = Fitness()
        self.breaker = Breaker(self.fitness, metrics=self.metrics, clock=self.clock)
        self.uptime_seconds = 1e9
        self.weaknesses: list[str] = []
        self.intake = Intake(
            self.streams,
            cast(Pipeline, self.room),
            self.leases,
            self.breaker,
            lease_seconds=lease_seconds,
            max_job_bytes=32 * 1024,
            uptime_seconds=lambda: self.uptime_seconds,
            weaknesses=lambda: self.weaknesses,
            metrics=self.metrics,
            clock=self.clock,
        )

    def worker(self, owner: str, lease_seconds: float = 30) -> Streams:
        """One worker's side of the protocol."""
        return new_streams(Streams, self.client, KEYS, owner, lease_seconds)

    def take(self, entries: int = 1) -> list[Begun]:
        """Another worker reads and begins what there is, and has been silent for a day."""
        other = self.worker("other")
        begun = other.begin(other.read(entries))
        assert len(begun) == entries
        lapse(self.client, KEYS, "other")
        return begun

    def pending(self, owner: str) -> list[Any]:
        """What a worker holds in the normal lane, by the server's book."""
        found: list[Any] = self.client.xpending_range(
            KEYS.lane(Lane.NORMAL), "workers", "-", "+", 100, consumername=owner
        )
        return found

    def steps(self, number: int = 1) -> list[str]:
        """Let the intake look at everything so often; returns the jobs submitted."""
        for _ in range(number):
            self.clock.now += 2  # upkeep is due, and nothing blocks for long
            self.clock.tick = 1
            self.intake.step()
        return self.room.jobs

    def add(self, *jobs: str, lane: Lane = Lane.NORMAL) -> None:
        """Enqueue jobs by plain XADD."""
        for job in jobs:
            self.client.xadd(KEYS.lane(lane), {"key": "a.wav", "job": job})

    def close(self) -> None:
        """Stop the intake, where it was started."""
        if self.intake._thread.is_alive():
            self.intake.stop()
        self.client.close()


MakeHost = Callable[..., Host]


@contextmanager
def hosts(url: str) -> Iterator[MakeHost]:
    """Make hosts on the server of that URL, or on one of their own; nothing is printed."""
    made: list[Host] = []

    def make(url: str = url, **options: Any) -> Host:
        made.append(Host(url, **options))
        return made[-1]

    with capture_logs():
        yield make
        for each in made:
            each.close()
