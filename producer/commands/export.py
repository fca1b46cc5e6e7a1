"""`export`: results as one file. `purge-uploads`: what `submit` uploaded, and nobody needs."""

import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from producer.client import InvalidJob
from producer.export.formats import Format, UnknownFormat, format_of
from producer.export.rows import rows_of
from producer.export.writers import CannotWrite, write
from producer.program import (
    EXIT_SETTINGS,
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
from storage.queue.history import History
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
    """Write results, a row for each end of a job whose event is kept, into one file."""
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
    history = client_of(chosen).operator.history
    try:
        _tell_what_is_gone(history, since or 0)
        rows = rows_of(history.ends(since or 0, until or _FOREVER_MS, batch))
        if to_file is not None:
            count = write(rows, to_file, written)
        else:
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory, "results")
                count = write(rows, path, written)
                if store is not None and to_key is not None:
                    store.put_file(to_key, path, content_type=written.content_type)
    except (RedisError, JobError, OSError, CannotWrite) as error:
        fail(explained(error))
    tell(f"{count} result(s) in {to_key or to_file}")


def _tell_what_is_gone(history: History, since_ms: int) -> None:
    """Events are kept up to a number: what ended long ago has none any more."""
    oldest_ms = history.oldest_ms()
    if since_ms and oldest_ms is not None and since_ms < oldest_ms:
        oldest = datetime.fromtimestamp(oldest_ms / 1000, UTC).isoformat(" ", "seconds")
        tell(f"the oldest event that is kept is of {oldest}: nothing that ended before is written")


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
