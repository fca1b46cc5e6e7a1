"""One page of a bulk: some of its rows become jobs, and how far it is by then is written down."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from threading import Event

import structlog

from producer.client import BacklogFull, Client, Job, Lane
from producer.control.manifest import ManifestError, Row
from producer.control.rows import Sources, Stores, job_of
from producer.control.settings import ControlSettings
from storage.errors import InvalidJob, JobError
from storage.queue.bulks import OPEN, Bulk, Bulks, BulkStatus

Refused = dict[str, dict[str, str]]

log = structlog.get_logger(__name__)


class BulkPages:
    """Sends pages and ends bulks; `sent` is set after each. Each can be repeated, by anyone."""

    def __init__(
        self,
        settings: ControlSettings,
        client: Client,
        bulks: Bulks,
        stores: Stores,
        sent: Event,
    ) -> None:
        self._settings = settings
        self._client = client
        self._bulks = bulks
        self._stores = stores
        self._sources = Sources(stores)
        self._sent = sent

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
                self._bulks.change(bulk_id, OPEN, at_page=number, error=f"waits: {error}")
                raise
            told = {"status": BulkStatus.FAILED, "error": str(error)}
            self._bulks.change(bulk_id, [BulkStatus.RUNNING], at_page=number, **told)
            log.error("bulk.failed", bulk=bulk_id, error=str(error))
        finally:
            self._sent.set()

    def _send(self, bulk: Bulk, most: int) -> None:
        repeated = bulk.begun == bulk.page
        if not self._bulks.change(
            bulk.id, [BulkStatus.RUNNING], at_page=bulk.page, begun=bulk.page
        ):
            return
        source = self._sources.take(bulk)
        rows, jobs, refused = self._jobs(islice(source, most), bulk)
        confirmed, full = self._submit([job for job in jobs.values()], bulk.lane, repeated)
        taken = next((number for number, job in jobs.items() if job.id not in confirmed), len(rows))
        done = rows[:taken]
        page = bulk.page + 1
        exhausted = taken == len(rows) < most
        cursor = done[-1].cursor if done else bulk.cursor
        faults = [json.dumps(refused[each.cursor]) for each in done if each.cursor in refused]
        skipped = sum(1 for row in done if row.fields is None and not row.fault)
        written = self._bulks.change(
            bulk.id,
            OPEN,
            at_page=bulk.page,
            refused_rows=faults,
            page=page,
            # What lies behind a full lane's first refusal may be sent: the next page is a repeat.
            begun=page if full else bulk.page,
            cursor=cursor,
            keys=bulk.keys + len(done) - skipped - len(faults),
            skipped=bulk.skipped + skipped,
            refused=bulk.refused + len(faults),
            error="",
        )
        if not written:
            return
        log.debug("bulk.page_sent", bulk=bulk.id, page=page, keys=len(done))
        if exhausted:
            if self._bulks.change(bulk.id, [BulkStatus.RUNNING], status=BulkStatus.ENDING):
                self.end(bulk.id)
        elif taken == len(rows):
            self._sources.keep(bulk.id, cursor, source)

    def _jobs(self, read: Iterator[Row], bulk: Bulk) -> tuple[list[Row], dict[int, Job], Refused]:
        """The rows, their jobs by their numbers, and what is wrong with others by their cursors.

        A job is bounded and a row is not, so what a row holds is let go before the next is read.
        """
        rows: list[Row] = []
        jobs: dict[int, Job] = {}
        refused: Refused = {}
        for number, row in enumerate(read):
            rows.append(replace(row, name="", fields=None if row.fields is None else {}))
            if row.fields is None:
                fault = row.fault
            else:
                try:
                    jobs[number] = job_of(row, bulk, max_job_bytes=self._settings.max_job_bytes)
                    continue
                except InvalidJob as error:
                    fault = str(error)
            if fault:
                shown = row.name.encode("utf-8", "backslashreplace").decode()
                refused[row.cursor] = {"row": shown, "error": fault}
        return rows, jobs, refused

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
