"""What the console's routes work with, and how what goes wrong is answered."""

import asyncio
import json
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from producer import show
from producer.client import BacklogFull, Client, RedisError
from producer.console.guard import refused
from producer.console.settings import ConsoleSettings
from storage.errors import AccessDenied, InvalidJob, JobError, ObjectNotFound
from storage.objects.store import ObjectStore
from storage.objects.transfers import Transfers, transfers_of
from storage.queue.dead import DeadLetters
from storage.queue.files import BatchFiles
from storage.queue.rights import is_refused
from storage.redis.url import Kind, parse_redis_url
from storage.wire.messages import LISTS

_MOST_BODY_BYTES = 3 * 1024**2  # of what is no part of a file: a list of 10,000 segments
_BODY_SECONDS = 20.0
_MOST_LIST_BYTES = 32 * 1024**2


@dataclass(frozen=True, slots=True)
class Backend:
    """Redis and the stores, as the settings name them. All of it is thread-safe."""

    settings: ConsoleSettings
    client: Client
    audio: ObjectStore
    outputs: ObjectStore
    uploads: Transfers
    objects: Transfers
    files: BatchFiles
    letters: DeadLetters

    @classmethod
    def of(cls, settings: ConsoleSettings, client: Client) -> "Backend":
        """With the stores opened."""
        audio = settings.open_store(settings.store)
        outputs = settings.open_store(settings.output_store) if settings.output_store else audio
        return cls(
            settings,
            client,
            audio,
            outputs,
            transfers_of(audio),
            transfers_of(outputs),
            client.operator.files,
            client.operator.dead_letters,
        )

    def result(self, job: str) -> dict[str, Any] | None:
        """A job's hash with its JSON opened up, and the lists that lie in objects; None of none."""
        found = self.client.status(job)
        if found is None:
            return None
        opened: dict[str, Any] = json.loads(show.as_json(job, found.fields))
        for name in LISTS:
            key = found.fields.get(f"{name}_key")
            if key and name not in opened:
                with self.outputs.fetch(key, max_bytes=_MOST_LIST_BYTES) as blob:
                    opened[name] = from_json(os.pread(blob.fd, blob.size, 0))
        return opened


def backend_of(request: Request) -> Backend:
    """The application's."""
    found: Backend = request.app.state.backend
    return found


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises InvalidJob."""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body = await _body(request)
    except (TimeoutError, ClientDisconnect) as error:
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the request did not come") from error
    try:
        told = from_json(body, allow_inf_nan=False)  # unlike `json` it bounds the depth
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise InvalidJob("the request is no JSON object")
    return told


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY_BYTES:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return bytes(body)


def text_in(told: dict[str, Any], name: str, *, most: int = 1024) -> str:
    """A field that is text. Raises InvalidJob."""
    found = told.get(name, "")
    if not isinstance(found, str) or len(found) > most:
        raise InvalidJob(f"field {name!r}: must be text of at most {most} characters")
    return found


async def answer_fault(_: Request, error: Exception) -> Response:
    """What went wrong, with an HTTP status that says whether trying again may help."""
    if isinstance(error, HTTPException):
        answer = refused(HTTPStatus(error.status_code), "refused", error.detail)
        answer.headers.update(error.headers or {})
        return answer
    return refused(_status(error), _code(error), str(error))


def _status(error: Exception) -> HTTPStatus:
    match error:
        case ObjectNotFound():
            return HTTPStatus.GONE
        case AccessDenied():
            return HTTPStatus.BAD_GATEWAY
        case RedisError() if is_refused(error):
            return HTTPStatus.FORBIDDEN
        case BacklogFull() | RedisError():
            return HTTPStatus.SERVICE_UNAVAILABLE
        case JobError() if error.retryable:
            return HTTPStatus.SERVICE_UNAVAILABLE
        case _:
            return HTTPStatus.BAD_REQUEST


def _code(error: Exception) -> str:
    match error:
        case JobError():
            return error.code
        case BacklogFull():
            return "backlog_full"
        case RedisError():
            return "redis_denied" if is_refused(error) else "redis_away"
        case _:
            return "invalid"


FAULTS = (HTTPException, BacklogFull, JobError, RedisError, ValueError)


def redis_cli(settings: ConsoleSettings) -> str:
    """The `redis-cli` that reaches the same server; a password has to be added by hand."""
    url = parse_redis_url(settings.redis_url)
    if url.kind is Kind.UNIX:
        return f"redis-cli -s {url.path}"
    host, port = url.nodes[0]
    words = ["redis-cli", *(["-c"] if url.kind is Kind.CLUSTER else [])]
    words += [] if host in ("localhost", "127.0.0.1") else ["-h", host]
    words += ["-p", str(port)] if url.kind is not Kind.SENTINEL else []
    words += ["--tls"] if url.tls else []
    words += ["-n", str(url.options["db"])] if url.options.get("db") else []
    words += ["--user", str(url.options["username"])] if url.options.get("username") else []
    words += ["--askpass"] if url.options.get("password") else []
    return " ".join(words)


def told(value: Any, status: HTTPStatus = HTTPStatus.OK) -> JSONResponse:
    """An answer."""
    return JSONResponse(value, status)
