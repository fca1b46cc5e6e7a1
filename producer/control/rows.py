"""What a bulk consists of, row by row, from where it was left: keys of a prefix, or a manifest."""

import hashlib
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from producer.client import Job, new_job
from producer.client.asked import field_text
from producer.control.manifest import JOB_FIELDS, ManifestError, Row, read
from producer.export.formats import Format
from storage.errors import InvalidJob
from storage.objects.local_files import AUDIO_SUFFIXES
from storage.objects.store import ManagedStore
from storage.queue.bulks import Bulk
from storage.wire.messages import Want

MOST_MANIFEST_BYTES = 1024**3
_OPEN = 16  # sources that are kept open, each for its next page
_COPIED_BYTES = 1024**2
_NO_TEXT = (dict, bool, bytes)  # would be sent, and mean something else
Stores = Callable[[str], ManagedStore]  # by `audio` or `output`


class Sources:
    """The bulks' rows. Whoever goes on where it left off opens nothing again. For one thread."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._open: OrderedDict[str, tuple[str, Iterator[Row]]] = OrderedDict()

    def take(self, bulk: Bulk) -> Iterator[Row]:
        """The rows after the bulk's cursor; `keep` them afterwards, or they are closed.

        Raises ManifestError, JobError, OSError.
        """
        cursor, rows = self._open.pop(bulk.id, ("", None))
        if rows is not None and cursor == bulk.cursor:
            return rows
        return self._rows(bulk)

    def keep(self, bulk: str, cursor: str, rows: Iterator[Row]) -> None:
        """Have them at hand for the next page, which begins at that cursor."""
        self._open[bulk] = (cursor, rows)
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)

    def _rows(self, bulk: Bulk) -> Iterator[Row]:
        source = bulk.source
        if "prefix" in source:
            return self._of_prefix(bulk)
        return self._of_manifest(source, bulk.cursor)

    def _of_prefix(self, bulk: Bulk) -> Iterator[Row]:
        store, every_name = self._stores("audio"), bulk.source.get("every_name", False)
        bucket = bulk.job.get("bucket")
        for found in store.list(bulk.source["prefix"], after=bulk.cursor, bucket=bucket):
            wanted = not found.key.endswith("/") and (
                every_name or PurePosixPath(found.key).suffix.lower() in AUDIO_SUFFIXES
            )
            yield Row(found.key, found.key, {"key": found.key} if wanted else None)

    def _of_manifest(self, source: Mapping[str, Any], cursor: str) -> Iterator[Row]:
        with (
            self._stores(source["store"]).fetch(
                source["manifest"],
                bucket=source.get("bucket"),
                max_bytes=MOST_MANIFEST_BYTES,
            ) as blob,
            tempfile.TemporaryFile() as file,
        ):
            size, _, place = cursor.partition("|")
            if size and size != str(blob.size):
                raise ManifestError("the manifest was replaced meanwhile: submit the new one")
            _copy(blob.fd, file, blob.size)
            size = str(blob.size)
            blob.close()
            with closing(_iterator(file, Format(source["format"]), place)) as rows:
                for row in rows:
                    yield replace(row, cursor=f"{size}|{row.cursor}")


def _iterator(file: BinaryIO, written: Format, cursor: str) -> Any:
    """The rows, to be closed."""
    return read(file, written, cursor)


def _copy(descriptor: int, file: BinaryIO, size: int) -> None:
    """The first bytes behind a descriptor, onto the disk."""
    done = 0
    while done < size and (part := os.pread(descriptor, min(_COPIED_BYTES, size - done), done)):
        file.write(part)
        done += len(part)
    file.flush()


def job_of(row: Row, bulk: Bulk, *, max_job_bytes: int) -> Job:
    """The job of a row. Raises InvalidJob.

    Its id is made of the bulk's and of all that the row says, unless it has one: the same row is
    the same job, however often it is sent.
    """
    fields = {
        name: value
        for name, value in (row.fields or {}).items()
        if name in JOB_FIELDS and value not in (None, "")
    }
    key = fields.get("key")
    if not isinstance(key, str) or not key:
        raise InvalidJob("field 'key': missing; it names the audio object")
    if odd := [name for name, value in fields.items() if isinstance(value, _NO_TEXT)]:
        raise InvalidJob(f"field {odd[0]!r}: must be text, a number or a list")
    try:
        told = {**_of_all(bulk.job, fields), **fields}
        said = json.dumps(fields, sort_keys=True, default=str).encode()
        job_id = told.pop("job", None) or f"{bulk.id}.{hashlib.sha256(said).hexdigest()[:32]}"
        del told["key"]
        given = {**told, "batch": bulk.id}
        return new_job(key, job=str(job_id), max_job_bytes=max_job_bytes, **given)
    except UnicodeEncodeError as error:
        raise InvalidJob(f"is not UTF-8: {error.reason}") from error
    except RecursionError:  # what can be read so deep cannot be written: it takes more of the stack
        raise InvalidJob("is nested too deep") from None


def _of_all(job: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, str]:
    """What is told for all jobs, but for what cannot be had beside what this row says."""
    told = dict(job)
    segmented = "segments" in fields or "segments_from" in fields
    wanted = _words(field_text("want", fields["want"])) if "want" in fields else None
    if segmented or (wanted and Want.FRAMES in wanted):
        told.pop("segments", None)
        told.pop("segments_from", None)
    if segmented and "want" in told:
        told["want"] = ",".join(word for word in _words(told["want"]) if word != Want.FRAMES)
    if wanted and Want.TIMELINE not in wanted:
        told.pop("hop_s", None)
    return told


def _words(want: str) -> list[str]:
    return [word.strip() for word in want.split(",")]
