"""`/metrics`, `/healthz` and `/readyz` over HTTP."""

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app

from worker.telemetry.metrics import Metrics


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request: a client that says nothing keeps no probe waiting."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests of probes are no events."""


class HealthServer:
    """Answers probes and scrapes on a thread of its own.

    `healthy` says whether the process does its work; `ready` whether it takes jobs.
    """

    def __init__(
        self,
        address: str,
        metrics: Metrics,
        *,
        healthy: Callable[[], bool],
        ready: Callable[[], bool],
    ) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        scrape = make_wsgi_app(metrics.registry)
        probes = {"/healthz": healthy, "/readyz": ready}

        def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                return cast(Iterable[bytes], scrape(environ, start))
            if path not in probes:
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"ask for /metrics, /healthz or /readyz\n"]
            ok = probes[path]()
            start("200 OK" if ok else "503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"ok\n" if ok else b"no\n"]

        try:
            self._server = make_server(
                host,
                int(port),
                answer,
                server_class=_Server6 if ":" in host else _Server,
                handler_class=_Quiet,
            )
        except OSError as error:
            raise OSError(
                f"EMO_METRICS_ADDRESS={address}: {error.strerror}; give each worker on a host an "
                "address of its own, or none"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="health", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_port)

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, and let go of the port."""
        self._server.shutdown()
        self._server.server_close()
