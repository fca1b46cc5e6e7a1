"""`export`: results as one file. `purge-uploads`: what `submit` uploaded, and nobody needs."""

import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from producer.client import BatchState, InvalidJob
from producer.export.formats import Format, UnknownFormat, format_of
from producer.export.rows import rows_of
from producer.export.writers import CannotWrite, write
from producer.program import (
    EXIT_SETTINGS,
    EXIT_SOME_FAILED,
    age_seconds,
    client_of,
    explained,
    fail,
    outputs_of,
    settings,
    store_of,
)
from producer.sources import UPLOAD_PREFIX
from storage.errors import JobError
from storage.queue.batches import check_batch
from storage.queue.history import Ended, History
from storage.redis.connection import RedisError
from storage.terminal.text import say, tell

_FOREVER_MS = 10**14
_UPLOADED = re.compile(re.escape(UPLOAD_PREFIX) + r"[0-9a-f]{32}/[^/]+")


def moment_ms(text: str) -> int:
    """`2026-11-27`, `2026-11-27T14:30`, in UTC unless it says so, or an age: `24h` → unix ms.

    Raises typer.BadParameter.
    """
    try:
        return round(1000 * (time.time() - age_seconds(text)))
    except typer.BadParameter:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; write 2026-11-27, 2026-11-27T14:30Z or an age: 24h, 7d"
        ) from None
    return round(1000 * (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())


def export(
    *,
    since: Annotated[
        int | None,
        typer.Option("--from", parser=moment_ms, metavar="TIME", help="Ended then, or later."),
    ] = None,
    until: Annotated[
        int | None, typer.Option("--to", parser=moment_ms, metavar="TIME", help="Ended before.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Of this batch, or bulk, alone.")] = None,
    to_key: Annotated[
        str | None, typer.Option(help="Key in the output store: .parquet, .jsonl or .csv.")
    ] = None,
    to_file: Annotated[Path | None, typer.Option(help="A local file instead.")] = None,
    written: Annotated[
        Format | None, typer.Option("--format", help="How to write it; else by its name.")
    ] = None,
) -> None:
    """Write results, a row for each end of a job whose event is kept, into one file.

    Exits with 3 where a batch is not whole: ends, or results of them, are no longer kept.
    """
    if (to_key is None) == (to_file is None):
        fail("name either --to-key or --to-file", status=EXIT_SETTINGS)
    chosen = settings()
    try:
        written = written or format_of(to_key or str(to_file))
        if batch is not None:
            check_batch(batch)
    except (UnknownFormat, InvalidJob) as error:
        fail(str(error), status=EXIT_SETTINGS)
    store = None if to_key is None else outputs_of(chosen)
    client = client_of(chosen)
    history, kept = client.operator.history, _Kept()
    try:
        _tell_what_is_gone(history, since or 0)
        # Before its events: what ends meanwhile may be in the file, and is not missed in it.
        counted = client.batch(batch).state() if batch is not None else None
        rows = rows_of(kept.count(history.ends(since or 0, until or _FOREVER_MS, batch)))
        if to_file is not None:
            count = write(rows, to_file, written)
        else:
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory, "results")
                count = write(rows, path, written)
                if store is not None and to_key is not None:
                    store.put_file(to_key, path, content_type=written.content_type)
        oldest_ms = history.oldest_ms()
    except (RedisError, JobError, OSError, CannotWrite) as error:
        fail(explained(error))
    tell(f"{count} result(s) in {to_key or to_file}")
    missing = list(kept.missing())
    if batch is not None and since is None and until is None:
        missing += _missing_of(batch, counted, kept.jobs, oldest_ms)
    tell(*missing)
    if missing and batch is not None:
        raise typer.Exit(EXIT_SOME_FAILED)


@dataclass
class _Kept:
    """What there is still of the ends that go into a file."""

    jobs: int = 0  # the last end of each
    expired: int = 0

    def count(self, ends: Iterable[Ended]) -> Iterator[Ended]:
        """Count them as they go."""
        for each in ends:
            self.expired += each.expired
            self.jobs += each.expired or bool(each.result)
            yield each

    def missing(self) -> Iterator[str]:
        """What to say of results that are gone."""
        if self.expired:
            yield (
                f"no key, scores or lists of {self.expired} of them: their results have expired "
                "(EMO_RESULT_TTL_SECONDS)"
            )


def _missing_of(
    batch: str, counted: BatchState | None, jobs: int, oldest_ms: int | None
) -> Iterator[str]:
    """What to say of a batch of which not every job's end is among the events."""
    if counted is None:
        yield f"batch {batch}: unknown, or expired: whether these are all of its ends nobody knows"
        return
    ended = sum(counted.ends.values())
    if jobs < ended:
        since = "" if oldest_ms is None else f"; the oldest event is of {_shown(oldest_ms)}"
        yield (
            f"batch {batch}: {ended - jobs} of {ended} ends are no longer kept "
            f"(EMO_RESULTS_MAXLEN){since}"
        )


def _shown(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(" ", "seconds")


def _tell_what_is_gone(history: History, since_ms: int) -> None:
    """Events are kept up to a number: what ended long ago has none any more."""
    oldest_ms = history.oldest_ms()
    if since_ms and oldest_ms is not None and since_ms < oldest_ms:
        told = f"the oldest event that is kept is of {_shown(oldest_ms)}"
        tell(f"{told}: nothing that ended before is written")


def purge_uploads(
    *,
    older_than: Annotated[
        float,
        typer.Option(parser=age_seconds, metavar="AGE", help="Uploaded longer ago: 12h, 7d."),
    ],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete them; without, they are named alone.")
    ] = False,
    bucket: Annotated[str | None, typer.Option(help="Where `submit --bucket` put them.")] = None,
) -> None:
    """Name what `submit` uploaded into EMO_STORE, by age, and with --delete delete it.

    A job that still waits for an upload that is deleted fails.
    """
    chosen = settings(redis=False)
    store = store_of(chosen)
    if store is None:
        fail("EMO_STORE: required; it is where uploads are", status=EXIT_SETTINGS)
    before = time.time() - older_than
    count = size = 0
    try:
        for found in store.list(UPLOAD_PREFIX, bucket=bucket):
            if found.modified_s >= before or not _UPLOADED.fullmatch(found.key):
                continue
            if delete:
                store.delete(found.key, bucket=bucket)
            say(found.key)
            count += 1
            size += found.size_bytes
    except JobError as error:
        fail(str(error), f"{count} deleted before" if delete else "")
    done = "deleted" if delete else "would be deleted: repeat it with --delete"
    tell(f"{count} object(s) of {size / 1e6:.1f} MB {done}")
