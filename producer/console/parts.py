"""Parts of files, taken from browsers into the object store: so many at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from producer.console.backend import Backend, backend_of, told
from storage.errors import InvalidJob, ObjectNotFound
from storage.objects.transfers import PART_BYTES

AT_ONCE = 16  # parts in memory, of all pages together
_PART_SECONDS = 300.0
# While others wait for its place, a part comes at so many bytes a second, looked at so often.
# Slower, it would not come in its time; of many who share a line, all may be hardly faster.
_LEAST_RATE, _PATIENCE_SECONDS = PART_BYTES / _PART_SECONDS, 10.0


class Parts:
    """Takes parts; so many are in memory at most, and the others wait in their sockets.

    Who sends less than `least_rate`, in bytes a second, gives way while others wait: else a few
    that send nothing would keep everybody out.
    """

    def __init__(
        self,
        at_once: int = AT_ONCE,
        *,
        patience_seconds: float = _PATIENCE_SECONDS,
        least_rate: float = _LEAST_RATE,
    ) -> None:
        self._room = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._patience_seconds = patience_seconds
        self._least_bytes = least_rate * patience_seconds

    async def take(self, request: Request) -> Response:
        """Store one part."""
        backend, batch, job = named(request)
        number = int(request.path_params["number"])
        known = await run_in_threadpool(open_upload, backend, batch, job)
        if known["state"] == "sent":
            raise HTTPException(HTTPStatus.CONFLICT, "the upload is sent")
        wanted = min(PART_BYTES, known["size"] - number * PART_BYTES)
        if wanted < 1 or request.headers.get("content-length") != str(wanted):
            raise InvalidJob(f"part {number}: must have {max(0, wanted)} bytes")
        async with self._place():
            try:
                data = await self._read(request, wanted)
            except (TimeoutError, ClientDisconnect) as error:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the part did not come") from error
            try:
                append = backend.uploads.append
                await run_in_threadpool(append, known["key"], known["upload"], number, data)
            except ObjectNotFound:
                await run_in_threadpool(open_upload, backend, batch, job)  # is it given up?
                raise
        await run_in_threadpool(backend.files.begun, batch, job)
        return told({"parts": number + 1})

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        self._waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._room.release()

    async def _read(self, request: Request, wanted: int) -> bytes:
        """The part. Raises TimeoutError, ClientDisconnect."""
        data = bytearray()
        async with asyncio.timeout(_PART_SECONDS) as limit:
            watching = asyncio.create_task(self._watch(data, limit))
            try:
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > wanted:
                        break
            finally:
                watching.cancel()
        if len(data) != wanted:
            raise InvalidJob(f"{len(data)} bytes have come, not {wanted}")
        return bytes(data)

    async def _watch(self, data: bytearray, limit: asyncio.Timeout) -> None:
        """End a part that others wait for, and little has come of lately."""
        before = -self._least_bytes  # it has just begun
        while not self._waiting or len(data) - before >= self._least_bytes:
            before = len(data)
            await asyncio.sleep(self._patience_seconds)
        limit.reschedule(asyncio.get_running_loop().time())


def named(request: Request) -> tuple[Backend, str, str]:
    """The backend, and the batch and the job that are asked about."""
    return backend_of(request), request.path_params["batch"], request.path_params["job"]


def known_upload(backend: Backend, batch: str, job: str) -> dict[str, Any]:
    """What is noted of a file. Raises ObjectNotFound."""
    known = backend.files.of(batch, job)
    if known is None:
        raise ObjectNotFound(f"job {job}: nothing is known of its upload any more; send it again")
    return known


def open_upload(backend: Backend, batch: str, job: str) -> dict[str, Any]:
    """What is noted of a file that is being sent, or was. Raises ObjectNotFound, HTTPException."""
    known = known_upload(backend, batch, job)
    if known["state"] not in ("uploading", "sent"):
        raise HTTPException(HTTPStatus.CONFLICT, f"the upload is {known['state']}")
    return known
