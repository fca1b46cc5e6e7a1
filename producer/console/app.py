"""The console as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp

from producer.client import Client, RedisError
from producer.console import corrections, live, objects, pages, recordings, uploads
from producer.console.backend import FAULTS, Backend, answer_fault
from producer.console.guard import Guard
from producer.console.sessions import Sessions
from producer.console.settings import ConsoleSettings
from storage.redis.url import parse_redis_url

# Longer than a page takes to ask again: it gives up a connection that stands still for two minutes,
# and browsers wake those in the background once a minute.
_SWEEP_SECONDS = 180.0


def application(settings: ConsoleSettings, client: Client) -> ASGIApp:
    """The console; it uses the client from many threads, and does not close it."""
    backend = Backend.of(settings, client)
    password = settings.console_password.get_secret_value()
    salt = f"{parse_redis_url(settings.redis_url).nodes} {settings.prefix}"
    sessions = Sessions(password, salt=salt) if password else None

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_sweep(backend))
        yield
        sweeping.cancel()

    parts = (uploads, recordings, corrections, objects, live)
    app = Starlette(
        routes=[*pages.routes(sessions), *(route for part in parts for route in part.routes())],
        exception_handlers=dict.fromkeys(FAULTS, answer_fault),
        lifespan=lifespan,
    )
    app.state.backend = backend
    app.state.live = live.Live(backend)
    return Guard(app, settings, sessions)


async def _sweep(backend: Backend) -> None:
    old: uploads.Uploads = frozenset()
    while True:
        try:
            if backend.settings.console_write:
                old = await run_in_threadpool(uploads.sweep, backend, old)
        except RedisError:
            old = frozenset()  # it is away: when it is back, its pages are waited for
        await asyncio.sleep(_SWEEP_SECONDS)
