"""`/metrics`, `/livez` and `/readyz` over HTTP; `/healthz` is another name of `/livez`."""

import socket
from collections.abc import Callable, Iterable
from typing import cast
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app

from worker.telemetry.bounded_server import BoundedServer
from worker.telemetry.metrics import Metrics

_IDLE_SECONDS = 10


class HealthServer:
    """Answers probes and scrapes on threads of its own, however many clients are slow.

    `alive` says whether the process gets on with its work, `ready` whether it takes jobs. A client
    that says nothing for `idle_seconds` is cut off.
    """

    def __init__(
        self,
        address: str,
        metrics: Metrics,
        *,
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        idle_seconds: int = _IDLE_SECONDS,
    ) -> None:
        scrape = make_wsgi_app(metrics.registry)
        probes = {"/livez": alive, "/healthz": alive, "/readyz": ready}

        def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                return cast(Iterable[bytes], scrape(environ, start))
            if path not in probes:
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"ask for /metrics, /livez or /readyz\n"]
            ok = probes[path]()
            start("200 OK" if ok else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"ok\n" if ok else b"no\n"]

        self._server = BoundedServer(listen(address), answer, idle_seconds=idle_seconds)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def start(self) -> None:
        """Start answering."""
        self._server.start()

    def stop(self) -> None:
        """Stop answering, and let go of the port."""
        self._server.stop()


def listen(address: str) -> socket.socket:
    """Listen at `host:port`. Raises OSError that says what to change."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, int(port)),
            family=family,
            dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise OSError(
            f"EMO_METRICS_ADDRESS={address}: {error.strerror}; give each worker on a host an "
            "address of its own, or none"
        ) from error
