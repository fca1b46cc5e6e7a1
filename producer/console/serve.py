"""The console's server: one process, on one address, until a signal."""

import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from producer.client import Client
from producer.console.app import application
from producer.console.connections import Connection
from producer.console.settings import ConsoleSettings
from storage.terminal.text import tell

_MOST_CONNECTIONS = 256
_IDLE_SECONDS = 15
_LEAVE_SECONDS = 5


def serve(settings: ConsoleSettings, client: Client) -> None:
    """Serve until SIGINT or SIGTERM. Raises OSError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.create_server((settings.host, settings.port), family=family) as listening:
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        tell(f"console: http://{shown}:{port}/  (Ctrl-C ends it)")
        if not settings.console_write:
            tell("console: it only shows; --write lets the page upload, cancel, pause and replay")
        config = config_of(application(settings, client), proxies=settings.proxies)
        _Server(config).run(sockets=[listening])


def config_of(
    app: ASGIApp,
    *,
    most: int = _MOST_CONNECTIONS,
    idle_seconds: int = _IDLE_SECONDS,
    proxies: Sequence[str] = (),
) -> uvicorn.Config:
    """How it is served: `most` connections, each so long silent at most, `proxies` believed."""
    return uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        forwarded_allow_ips=list(proxies),
        limit_concurrency=most,
        timeout_keep_alive=idle_seconds,
        timeout_graceful_shutdown=_LEAVE_SECONDS,
    )


class _Server(uvicorn.Server):
    """One that ends in order when it is told to, and not by the signal itself afterwards."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """While it serves."""
        ends = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in ends}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
