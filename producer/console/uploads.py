"""Files from a browser into the object store, a part at a time, and then into the queue."""

import re
import time
import unicodedata
from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer.client import Job, Lane, new_job
from producer.console.backend import Backend, backend_of, body_of, text_in, told
from producer.console.parts import Parts, known_upload, named, open_upload
from producer.sources import UPLOAD_PREFIX, place_segments
from storage.errors import InvalidJob, JobError, ObjectNotFound, ObjectTooLarge
from storage.objects.local_files import AUDIO_SUFFIXES
from storage.objects.transfers import MOST_PARTS, PART_BYTES
from storage.queue.cancellation import Verdict
from storage.wire.messages import require_id
from storage.wire.parts import MOST_SEGMENTS_BYTES, SPEECH, parse_segments

PREFIX = f"{UPLOAD_PREFIX}console/"
_LONGEST_NAME = 200  # bytes
_JOB = re.compile(r"[0-9a-f]{32}")
_PATH = "/api/uploads/{batch}/{job}"


def routes(parts: Parts | None = None) -> list[Route]:
    """Those of uploads, with these places for parts."""
    return [
        Route("/api/uploads", begin, methods=["POST"]),
        Route(_PATH, look, methods=["GET"]),
        Route(_PATH, give_up, methods=["DELETE"]),
        Route(f"{_PATH}/finish", finish, methods=["POST"]),
        Route(f"{_PATH}/{{number:int}}", (parts or Parts()).take, methods=["PUT"]),
    ]


async def begin(request: Request) -> Response:
    """Begin an upload, or go on with it where the page has begun it before."""
    began_ms = 1000 * time.time()  # in the order in which the page has asked
    backend, asked = backend_of(request), await body_of(request)
    return await run_in_threadpool(_begin, backend, asked, began_ms)


def _begin(backend: Backend, asked: dict[str, Any], began_ms: float) -> Response:
    batch, job = text_in(asked, "batch"), text_in(asked, "job")
    name, size = text_in(asked, "name"), asked.get("size")
    require_id("batch", batch)
    if not batch or not _JOB.fullmatch(job):
        raise InvalidJob("fields 'batch' and 'job': ids that the page has made")
    most = min(int(backend.settings.console_max_file_bytes), MOST_PARTS * PART_BYTES)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise InvalidJob(f"{name}: is empty")
    if size > most:
        raise ObjectTooLarge(f"{name}: {size} bytes; EMO_CONSOLE_MAX_FILE_BYTES allows {most}")
    if PurePosixPath(name).suffix.lower() not in AUDIO_SUFFIXES:
        raise InvalidJob(f"{name}: its name does not say that it is audio, as .wav and .mp3 do")
    known = backend.files.of(batch, job)
    if not isinstance(asked.get("modified"), int | None):
        raise InvalidJob("field 'modified': must be a number of milliseconds")
    if known is not None and known.get("size") != size:
        raise InvalidJob(f"{name}: has {size} bytes, and not {known.get('size')} as before")
    if known is None:
        if backend.files.count(batch) >= backend.settings.console_max_files:
            raise InvalidJob(
                f"batch {batch}: EMO_CONSOLE_MAX_FILES allows "
                f"{backend.settings.console_max_files} files; begin another"
            )
        key = f"{PREFIX}{job}/{safe_name(name)}"
        fields = _job(backend, key, job, batch, asked).fields()
        known = {"name": name, "size": size, "key": key, "fields": fields, "state": "uploading"}
        known |= {"upload": backend.uploads.begin(key), "began_ms": began_ms}
        known["modified"] = asked.get("modified")  # by which the page knows the file again
        backend.files.begun(batch, job)
        backend.files.note(batch, job, known)
    elif known["state"] == "uploading":
        backend.files.begun(batch, job)  # its page is there, whether or not it gets any further
    parts = _parts(backend, known) if known["state"] == "uploading" else 0
    return told({"job": job, "state": known["state"], "parts": parts, "part_bytes": PART_BYTES})


def _job(backend: Backend, key: str, job: str, batch: str, asked: dict[str, Any]) -> Job:
    """The job that is to be submitted of it. Raises InvalidJob before any byte is sent."""
    fields: dict[str, Any] = {"batch": batch}
    for name in ("channel", "want", "labels"):
        fields[name] = text_in(asked, name) or None
    segments = text_in(asked, "segments", most=MOST_SEGMENTS_BYTES)
    fields["segments"] = SPEECH if segments == SPEECH else None
    made = new_job(key, job=job, **fields)
    if not segments or segments == SPEECH:
        return made
    listed = replace(made.parts, segments=parse_segments(segments, about="the turns"))
    most = backend.settings.max_job_bytes // 2  # a longer list is an object
    return replace(made, parts=place_segments(listed, backend.audio, None, most_bytes=most))


async def look(request: Request) -> Response:
    """How many parts of an upload are there."""
    return await run_in_threadpool(_look, *named(request))


def _look(backend: Backend, batch: str, job: str) -> Response:
    known = known_upload(backend, batch, job)
    parts = _parts(backend, known) if known["state"] == "uploading" else 0
    return told({"state": known["state"], "parts": parts, "part_bytes": PART_BYTES})


def _parts(backend: Backend, known: Mapping[str, Any]) -> int:
    """How many have come. All, where a console died between the object's end and its note."""
    try:
        return backend.uploads.parts(known["key"], known["upload"])
    except ObjectNotFound:
        size: int = known["size"]
        if backend.uploads.size(known["key"]) != size:
            raise
        return -(-size // PART_BYTES)


async def finish(request: Request) -> Response:
    """Make an object of the parts, and enqueue its job; both can be repeated."""
    return await run_in_threadpool(_finish, *named(request))


def _finish(backend: Backend, batch: str, job: str) -> Response:
    known = open_upload(backend, batch, job)
    if known["state"] == "uploading":
        backend.files.begun(batch, job)  # where the lanes are full, its page asks again and again
        try:
            backend.uploads.finish(known["key"], known["upload"], known["size"])
        except ObjectNotFound:
            if open_upload(backend, batch, job)["state"] == "uploading":
                forget(backend, batch, job, known, state="lost")
            raise
        open_upload(backend, batch, job)  # it may have been cancelled meanwhile
        submit(backend, job, known)
        try:
            open_upload(backend, batch, job)
        except HTTPException:
            backend.client.cancel(job)
            raise
        backend.files.note(batch, job, {**known, "state": "sent"})
        backend.files.ended(batch, job)
    return told({"job": job, "state": "sent"})


def submit(backend: Backend, job: str, known: Mapping[str, Any]) -> None:
    """Enqueue the job of a file; again, where it has ended otherwise than as done."""
    fields = {name: text for name, text in known["fields"].items() if name not in ("job", "key")}
    backend.client.submit(new_job(known["key"], job=job, **fields), Lane.NORMAL)


async def give_up(request: Request) -> Response:
    """Abort an upload; nothing is left in the store. Cancel the job, where it is one by now."""
    return await run_in_threadpool(_give_up, *named(request))


def _give_up(backend: Backend, batch: str, job: str) -> Response:
    known = known_upload(backend, batch, job)
    if known["state"] not in ("sent", "cancelled"):
        forget(backend, batch, job, known, state="cancelled")
    # Whoever ends it looks at the note after the job is made, and we at the job after the note.
    verdict = backend.client.cancel(job).verdict
    if known["state"] == "sent" and verdict is Verdict.UNKNOWN:  # it has expired
        forget(backend, batch, job, known, state="cancelled")
    return told({"state": "cancelled"})


def forget(backend: Backend, batch: str, job: str, known: Mapping[str, Any], *, state: str) -> None:
    """Abort an upload, and say what became of it."""
    backend.uploads.abort(known["key"], known["upload"])
    backend.files.note(batch, job, {**known, "state": state})
    backend.files.ended(batch, job)


Uploads = Set[tuple[str, str]]  # by their batch and job


def sweep(backend: Backend, before: Uploads) -> Uploads:
    """Give up the uploads that nobody goes on with, of whatever console. Raises RedisError.

    Only those that were old `before` too, which is what the last look has returned: while the
    console or Redis was away, no page could go on, and each needs a while to do so now.
    """
    old = set(backend.files.abandoned(backend.settings.console_abandoned_seconds))
    for batch, job in old & before:
        known = backend.files.of(batch, job)
        try:
            if known is not None and known.get("state") == "uploading":
                forget(backend, batch, job, known, state="abandoned")
        except JobError:
            continue  # the store is away: at the next look
        backend.files.ended(batch, job)
    return old


def safe_name(name: str) -> str:
    """A file's name as the last part of a key: one that every store and every shell can have."""
    plain = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in plain).lstrip(".-")
    stem, dot, suffix = kept.rpartition(".")
    room = _LONGEST_NAME - len(suffix.encode()) - 1
    short = stem.encode()[: max(1, room)].decode("utf-8", "ignore")
    return f"{short or 'recording'}{dot}{suffix}"
