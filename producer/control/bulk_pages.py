"""One page of a bulk: some of its rows become jobs, and how far it is by then is written down."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from threading import Event

import structlog
from rq.timeouts import JobTimeoutException

from producer.client import BacklogFull, Client, Job, Lane
from producer.control.jobs import JOB_SECONDS
from producer.control.manifest import ManifestError, Row
from producer.control.rows import Sources, Stores, job_of
from producer.control.settings import ControlSettings
from storage.errors import InvalidJob, JobError
from storage.queue.bulks import OPEN, Bulk, Bulks, BulkStatus

_READ_SECONDS = 5.0  # reading a page: less than its time, of which a manifest may take 20 s to come

log = structlog.get_logger(__name__)


@dataclass
class _Page:
    """Rows, the jobs of some by their numbers, and what is wrong with others by their cursors."""

    rows: list[Row] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    last: bool = False  # there are no rows behind it


class BulkPages:
    """Sends pages and ends bulks; `sent` is set after each. Each can be repeated, by anyone."""

    def __init__(
        self,
        settings: ControlSettings,
        client: Client,
        bulks: Bulks,
        stores: Stores,
        sent: Event,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._client = client
        self._bulks = bulks
        self._stores = stores
        self._sources = Sources(stores)
        self._sent = sent
        self._clock = clock

    def send(self, bulk_id: str, number: int) -> None:
        """Send a page, unless it is sent already. Raises RedisError, JobError, OSError."""
        bulk = self._bulks.get(bulk_id)
        if bulk is None or bulk.page != number or bulk.status is not BulkStatus.RUNNING:
            return
        room = self._settings.bulk_lane_jobs - self._bulks.lane_length(bulk.lane)
        if room <= 0:
            return
        try:
            self._send(bulk, min(room, self._settings.bulk_page_keys))
        except (ManifestError, JobError) as error:
            if isinstance(error, JobError) and error.retryable:
                self._waits(bulk_id, number, str(error))
                raise
            told = {"status": BulkStatus.FAILED, "error": str(error)}
            self._bulks.change(bulk_id, [BulkStatus.RUNNING], at_page=number, **told)
            log.error("bulk.failed", bulk=bulk_id, error=str(error))
        except OSError as error:  # of control's own disk most often, where manifests are copied to
            self._waits(bulk_id, number, f"where control runs: {error}")
            raise
        except JobTimeoutException:
            self._waits(bulk_id, number, f"a page of it took longer than {JOB_SECONDS} s")
            raise
        finally:
            self._sent.set()

    def _waits(self, bulk_id: str, number: int, why: str) -> None:
        """Have `bulk show` say what it waits for, or fails of again and again."""
        self._bulks.change(bulk_id, OPEN, at_page=number, error=f"waits: {why}")

    def _send(self, bulk: Bulk, most: int) -> None:
        repeated = bulk.begun == bulk.page
        if not self._bulks.change(
            bulk.id, [BulkStatus.RUNNING], at_page=bulk.page, begun=bulk.page
        ):
            return
        source = self._sources.take(bulk)
        read = self._read(source, most, bulk)
        confirmed, full = self._submit(list(read.jobs.values()), bulk.lane, repeated)
        unsent = (number for number, job in read.jobs.items() if job.id not in confirmed)
        taken = next(unsent, len(read.rows))
        whole, done = taken == len(read.rows), read.rows[:taken]
        # What lies behind may be sent: by whoever had this page before, or in spite of a full lane.
        # Then the next page is a repeat too.
        short = repeated and len(read.rows) < self._settings.bulk_page_keys
        page = bulk.page + 1
        cursor = done[-1].cursor if done else bulk.cursor
        refused = [read.refused[each.cursor] for each in done if each.cursor in read.refused]
        faults = [json.dumps(each) for each in refused]
        counted = [row for row in done if not row.blank]
        skipped = sum(1 for row in counted if row.fields is None and not row.fault)
        written = self._bulks.change(
            bulk.id,
            OPEN,
            at_page=bulk.page,
            refused_rows=faults,
            page=page,
            begun=page if full or short else bulk.page,
            cursor=cursor,
            keys=bulk.keys + len(counted) - skipped - len(faults),
            skipped=bulk.skipped + skipped,
            refused=bulk.refused + len(faults),
            error="",
        )
        if not written:
            return
        log.debug("bulk.page_sent", bulk=bulk.id, page=page, keys=len(done))
        if whole and read.last:
            if self._bulks.change(bulk.id, [BulkStatus.RUNNING], status=BulkStatus.ENDING):
                self.end(bulk.id)
        elif whole:
            self._sources.keep(bulk.id, cursor, source)

    def _read(self, source: Iterator[Row], most: int, bulk: Bulk) -> _Page:
        """The next rows: so many, or fewer where they are long in coming; one at least.

        A job is bounded and a row is not, so what a row holds is let go before the next is read.
        """
        page = _Page()
        ends_at: float | None = None
        while len(page.rows) < most and (ends_at is None or self._clock() < ends_at):
            row = next(source, None)
            if row is None:
                page.last = True
                break
            if ends_at is None:  # the first may have taken a manifest to come
                ends_at = self._clock() + _READ_SECONDS
            number = len(page.rows)
            page.rows.append(replace(row, name="", fields=None if row.fields is None else {}))
            if row.fields is None:
                fault = row.fault
            else:
                try:
                    most_bytes = self._settings.max_job_bytes
                    page.jobs[number] = job_of(row, bulk, max_job_bytes=most_bytes)
                    continue
                except InvalidJob as error:
                    fault = str(error)
            if fault:
                shown = row.name.encode("utf-8", "backslashreplace").decode()
                page.refused[row.cursor] = {"row": shown, "error": fault}
        return page

    def _submit(self, jobs: list[Job], lane: Lane, repeated: bool) -> tuple[set[str], bool]:
        """The ids that are enqueued now, or were before; and whether there was no room for all."""
        known = set()
        if repeated:  # whoever had the page before sent some, which may have ended meanwhile
            known = {job.id for job in jobs if self._is_ours(job)}
        confirmed = set(known)
        try:
            left = (job for job in jobs if job.id not in known)
            for submitted in self._client.submit_many(left, lane, wait=False):
                confirmed.add(submitted.job_id)
        except BacklogFull:
            return confirmed, True
        return confirmed, False

    def _is_ours(self, job: Job) -> bool:
        found = self._client.status(job.id)
        return found is not None and found.batch == job.batch

    def end(self, bulk_id: str) -> None:
        """Seal the batch of a bulk that is all sent, or cancelled. Raises RedisError."""
        bulk = self._bulks.get(bulk_id)
        ends = {
            BulkStatus.ENDING: BulkStatus.DONE,
            BulkStatus.CANCELLING: BulkStatus.CANCELLED,
        }
        if bulk is None or bulk.status not in ends:
            return
        batch = self._client.batch(bulk_id)
        state = batch.state()
        batch.seal(state.jobs + state.repeated if state else 0)
        status = ends[bulk.status]
        if self._bulks.change(bulk_id, [bulk.status], status=status):
            log.info("bulk.ended", bulk=bulk_id, status=status.value, keys=bulk.keys)
            self._delete_manifest(bulk)

    def _delete_manifest(self, bulk: Bulk) -> None:
        """What `bulk submit` uploaded is of no more use."""
        if not bulk.source.get("uploaded"):
            return
        try:
            self._stores(bulk.source["store"]).delete(bulk.source["manifest"])
        except JobError as error:
            log.warning("bulk.manifest_left", bulk=bulk.id, error=str(error))
