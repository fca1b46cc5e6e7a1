"""Bulks as a part of control: pages are sent by rq, and a feeder gives them out in turn.

A bulk has one page on its way at most, and the queue is first in, first out: so active bulks take
turns, A1 B1 A2 B2, however long they are.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from threading import Event

from rq.job import JobStatus

from producer.control.bulk_pages import BulkPages
from producer.control.context import Context, Part
from producer.control.jobs import ControlQueue
from producer.control.settings import ControlSettings
from storage.errors import AccessDenied
from storage.objects.store import ManagedStore
from storage.queue.bulks import Bulk, Bulks, BulkStatus
from storage.wire.messages import Lane

SEND = "bulk.send_page"
_RETRY_SECONDS = (0, 5)
_LOOK_SECONDS = 1.0
_STORE_SECONDS = 20.0  # less than a job of rq's may take
_ON_ITS_WAY = (JobStatus.QUEUED, JobStatus.STARTED, JobStatus.SCHEDULED)


def bulks(context: Context) -> Part:
    """The part."""
    found = context.client.operator.bulks
    sent = Event()
    stores = store_by_name(context.settings)
    pages = BulkPages(context.settings, context.client, found, stores, sent)
    feeder = Feeder(context.settings, found, context.queue, pages.end, sent)
    return Part({SEND: pages.send}, [feeder.feed])


class Feeder:
    """Gives out the next page of each active bulk whose lane has room. For one thread.

    Several may run: a page has one id in rq, whoever gives it out.
    """

    def __init__(
        self,
        settings: ControlSettings,
        bulks: Bulks,
        queue: ControlQueue,
        end: Callable[[str], None],
        sent: Event,
    ) -> None:
        self._settings = settings
        self._bulks = bulks
        self._queue = queue
        self._end = end
        self._sent = sent
        self._ended: frozenset[str] = frozenset()

    def feed(self, stop: Event) -> None:
        """Give out pages until `stop` is set. Raises RedisError."""
        while not stop.is_set():
            self._sent.clear()
            self.give_out()
            self._sent.wait(_LOOK_SECONDS)

    def give_out(self) -> int:
        """What can be given out now; how many pages that was. Raises RedisError."""
        given = 0
        known = self._bulks.all(without=self._ended)
        self._ended |= {bulk.id for bulk in known if bulk.status.ended}
        rooms: dict[Lane, int] = {}
        for bulk in known:
            if bulk.status in (BulkStatus.ENDING, BulkStatus.CANCELLING):
                if not self._is_on_its_way(bulk):
                    self._end(bulk.id)
            elif bulk.status is BulkStatus.RUNNING and not self._is_on_its_way(bulk):
                if bulk.lane not in rooms:
                    length = self._bulks.lane_length(bulk.lane)
                    rooms[bulk.lane] = self._settings.bulk_lane_jobs - length
                if rooms[bulk.lane] > 0:
                    given += self._queue.send(
                        SEND,
                        bulk.id,
                        bulk.page,
                        job_id=self._job_id(bulk),
                        retry_seconds=_RETRY_SECONDS,
                    )
        return given

    def _is_on_its_way(self, bulk: Bulk) -> bool:
        job = self._queue.fetch_job(self._job_id(bulk))
        return job is not None and job.get_status(refresh=False) in _ON_ITS_WAY

    def _job_id(self, bulk: Bulk) -> str:
        named = f"{self._settings.prefix}\0{bulk.id}\0{bulk.created_at_ms}".encode()
        return f"bulk-{hashlib.sha256(named).hexdigest()[:32]}-{bulk.page}"


def store_by_name(settings: ControlSettings) -> Callable[[str], ManagedStore]:
    """The stores that bulks read, `audio` and `output`, each opened when first asked for."""

    @cache
    def opened(which: str) -> ManagedStore:
        url = settings.output_store if which == "output" else ""
        if not (url or settings.store):
            raise AccessDenied("control has no store: set EMO_STORE where it runs, and resume")
        return settings.open_store(url or settings.store, timeout_seconds=_STORE_SECONDS)

    return opened
