"""What workers made for a page: peaks and a preview, by ranges, from the output store."""

import re
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from producer.console.backend import backend_of

_TYPES = {
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".webm": "audio/webm",
    ".json": "application/json",
}
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})")


def routes() -> list[Route]:
    """An object is asked for by its job, so nothing else in the store can be."""
    return [Route("/objects/{job}/{what}", serve, methods=["GET"])]


def serve(request: Request) -> Response:
    """An object or a range of it."""
    backend, job, what = backend_of(request), *map(request.path_params.get, ("job", "what"))
    result = backend.client.status(str(job))
    key = result.objects.get(str(what)) if result and what in ("peaks", "preview") else None
    if not key:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"job {job} has no {what}")
    size = backend.objects.size(key)
    start, end = bounds(request.headers.get("range"), size)
    suffix = key[key.rfind(".") :]
    headers = {
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=3600",
        "content-length": str(end - start),
    }
    status = HTTPStatus.OK
    if "range" in request.headers:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    return StreamingResponse(
        backend.objects.read(key, start, end - start),
        status,
        headers,
        media_type=_TYPES.get(suffix, "application/octet-stream"),
    )


def bounds(asked: str | None, size: int) -> tuple[int, int]:
    """The first byte of a range and that behind its last. Raises HTTPException."""
    if asked is None:
        return 0, size
    found = _RANGE.fullmatch(asked.strip())
    if found and found[1]:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    elif found and found[2]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = size, size
    if start >= end:
        raise HTTPException(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers={"content-range": f"bytes */{size}"}
        )
    return start, end
