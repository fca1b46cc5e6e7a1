"""Control in this process: its parts and rq's worker, driven a round at a time."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

from producer.client import Client, Contract
from producer.control.bulk_pages import BulkPages
from producer.control.bulks import SEND, Feeder, store_by_name
from producer.control.jobs import ControlQueue, jobs_of
from producer.control.settings import ControlSettings
from producer.control.worker import ControlWorker
from storage.queue.bulks import Bulk, BulkStatus
from storage.redis.connection import connect
from storage.wire.messages import Lane
from tests.support.polling import TIMEOUT_SECONDS


class Control:
    """What one process of control has, without its threads."""

    def __init__(self, url: str, store: Path, **options: Any) -> None:
        clock = options.pop("clock", time.monotonic)
        given = {"redis_url": url, "store": f"file://{store}", "bulk_page_keys": 100, **options}
        self.settings = ControlSettings(**given)
        self.client = Client(url, Contract.of(self.settings), name="test-control")
        self.functions: dict[str, Callable[..., Any]] = {}
        self._rq = connect(
            self.settings.rq_url, name="test-control", timeout_seconds=TIMEOUT_SECONDS
        )
        self.queue = ControlQueue(self.settings.prefix, self._rq, job_class=jobs_of(self.functions))
        self.bulks = self.client.operator.bulks
        self.pages = BulkPages(
            self.settings,
            self.client,
            self.bulks,
            store_by_name(self.settings),
            Event(),
            clock=clock,
        )
        self.functions[SEND] = self.pages.send
        self.feeder = Feeder(self.settings, self.bulks, self.queue, self.pages.end, Event())
        self.failures: list[str] = []

    def work(self) -> None:
        """Run what is in rq's queue."""
        worker = ControlWorker(self.queue, Event(), failed=self._failed)
        worker.work(burst=True, logging_level="CRITICAL")

    def round(self) -> int:
        """Give out pages, and send them; how many that were."""
        given = self.feeder.give_out()
        self.work()
        return given

    def run(self, most_rounds: int = 1000) -> None:
        """Rounds until one changes nothing."""
        for _ in range(most_rounds):
            before = self.bulks.all()
            if not self.round() and self.bulks.all() == before:
                return
        raise AssertionError("it never ends")

    def submit(self, bulk: str, prefix: str = "", lane: Lane = Lane.BULK, **job: str) -> None:
        """A bulk of all audio below a prefix."""
        self.bulks.create(bulk, lane, {"prefix": prefix}, job)

    def bulk(self, bulk: str) -> Bulk:
        """The bulk as it is now."""
        found = self.bulks.get(bulk)
        assert found is not None
        return found

    def status(self, bulk: str) -> BulkStatus:
        """Where it is."""
        return self.bulk(bulk).status

    def abandon(self) -> list[str]:
        """Begin what is next in rq's queue, and do nothing more of it; what rq calls that."""
        client: Any = self._rq
        taken = client.lmove("rq:queue:emo", "rq:queue:emo:intermediate")
        job = self.queue.fetch_job(taken.decode())
        assert job is not None
        worker = ControlWorker(self.queue, Event(), failed=self._failed)
        worker.prepare_execution(job)
        worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
        return [entry.decode() for entry in client.zrange("rq:wip:emo", 0, -1)]

    def _failed(self, job: Any, kind: type[BaseException], error: BaseException, _: Any) -> bool:
        self.failures.append(f"{kind.__name__}: {error}")
        return True

    def close(self) -> None:
        """Close its connections."""
        self.client.close()
        self._rq.close()


class Until(Event):
    """Is set as soon as something is so."""

    def __init__(self, so: Callable[[], bool]) -> None:
        super().__init__()
        self._so = so

    def wait(self, timeout: float | None = None) -> bool:
        """Look, a while after the last time."""
        super().wait(0.05)
        return self._so()


def files(directory: Path, count: int, *, width: int = 5) -> list[str]:
    """So many empty files of audio by name; their names."""
    directory.mkdir(parents=True, exist_ok=True)
    names = [f"{number:0{width}}.wav" for number in range(count)]
    for name in names:
        (directory / name).touch()
    return names


def sent(client: Any, lane: str = "emo:jobs:bulk") -> list[str]:
    """The keys in a lane, in their order."""
    return [fields[b"key"].decode() for _, fields in client.xrange(lane)]
