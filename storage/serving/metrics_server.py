"""`/metrics` and probes over HTTP."""

import socket
from collections.abc import Callable, Iterable, Mapping
from typing import cast
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app

from storage.serving.bounded_server import BoundedServer

_IDLE_SECONDS = 10


class MetricsServer:
    """Answers probes and scrapes on threads of its own, however many clients are slow.

    `probes` say yes or no, by their paths. A client that says nothing for `idle_seconds` is cut
    off. `variable` names the setting of the address, where that cannot be had.
    """

    def __init__(
        self,
        address: str,
        registry: CollectorRegistry,
        probes: Mapping[str, Callable[[], bool]],
        *,
        variable: str,
        idle_seconds: int = _IDLE_SECONDS,
    ) -> None:
        scrape = make_wsgi_app(registry)

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

        listener = listen(address, variable)
        self._server = BoundedServer(listener, answer, idle_seconds=idle_seconds)

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


def table(families: Iterable[Metric]) -> str:
    """Metrics as a Markdown table, for docs/metrics.md."""
    rows = ["| metric | type | what |", "| --- | --- | --- |"]
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        rows.append(f"| `{name}` | {family.type} | {family.documentation} |")
    return "\n".join(rows)


def listen(address: str, variable: str) -> socket.socket:
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
            f"{variable}={address}: {error.strerror}; give each program on a host an address of "
            "its own, or none"
        ) from error
