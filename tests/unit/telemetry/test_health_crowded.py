"""Probes beside clients that are silent, slow, too many, or send what nobody wants."""

import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from storage.serving.bounded_server import MOST_CONNECTIONS
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.probes import get
from tests.unit.telemetry.conftest import Serve
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics


def test_a_silent_client_keeps_no_probe_waiting(serve: Serve) -> None:
    """One connection that never asks must not get the worker restarted."""
    port = serve("127.0.0.1:0").port
    with socket.create_connection(("127.0.0.1", port)):
        assert get(port, "/livez")[0] == 200


SERVE = """
import resource, sys
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
server = HealthServer(
    "127.0.0.1:0", Metrics(), alive=lambda: True, ready=lambda: True, idle_seconds=3600
)
server.start()
print(server.port, flush=True)
sys.stdin.read()
"""
HALF_A_HEADER = b"GET /metrics HTTP/1.1\r\nHost: worker\r\nX-Slow: "


@contextmanager
def serving_process() -> Iterator[tuple[int, int]]:
    """A process that may have 128 descriptors and does nothing but serve: its id, and the port."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        yield process.pid, int(process.stdout.readline())
        process.stdin.close()


def test_slow_clients_take_neither_the_probes_nor_the_descriptors() -> None:
    """More of them than there are descriptors: probes are answered, and jobs can open files."""
    with serving_process() as (pid, port), ExitStack() as slow:
        before = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        for _ in range(200):
            client = slow.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(HALF_A_HEADER)
        for path in ("/livez", "/readyz", "/metrics"):
            assert get(port, path)[0] == 200  # no time-out of theirs was waited for
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) <= before + MOST_CONNECTIONS
        assert len(list(Path(f"/proc/{pid}/task").iterdir())) < 10


def test_clients_that_read_nothing_are_closed_too(serve: Serve, metrics: Metrics) -> None:
    """What was written for them and cannot be sent holds no place for ever."""
    port = serve("127.0.0.1:0").port
    with ExitStack() as slow:
        for _ in range(MOST_CONNECTIONS + 8):
            client = slow.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: worker\r\n\r\n" * 40)
        assert get(port, "/livez")[0] == 200


def test_half_a_request_is_waited_for_no_longer_than_the_time_out(metrics: Metrics) -> None:
    """And an idle connection no longer either."""
    server = HealthServer(
        "127.0.0.1:0",
        metrics,
        alive=lambda: True,
        ready=lambda: True,
        idle_seconds=1,  # whole seconds are all that there are
    )
    server.start()
    try:
        with ExitStack() as slow:
            began = time.monotonic()
            clients = [
                slow.enter_context(
                    socket.create_connection(("127.0.0.1", server.port), TIMEOUT_SECONDS)
                )
                for _ in range(2)
            ]
            clients[0].sendall(HALF_A_HEADER)
            for client in clients:
                assert client.recv(1) == b""
            assert time.monotonic() - began > 0.9
    finally:
        server.stop()


def test_a_crowd_is_said_once(serve: Serve) -> None:
    """Not for each connection: the log is no place for an attacker to write in."""
    port = serve("127.0.0.1:0").port
    with capture_logs() as logs, ExitStack() as slow:
        for _ in range(5):
            for _ in range(MOST_CONNECTIONS):
                slow.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert get(port, "/livez")[0] == 200
    assert [entry["event"] for entry in logs] == ["health.crowded"]


def test_a_body_is_refused(serve: Serve) -> None:
    """Nobody sends one to a probe, and it would be kept in memory or on disk."""
    port = serve("127.0.0.1:0").port
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.sendall(b"POST /healthz HTTP/1.1\r\nHost: w\r\nContent-Length: 99999999\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 413 ")


def test_descriptors_of_a_busy_worker_are_served_too(serve: Serve) -> None:
    """`select` knows no descriptor above 1023, and a worker with many jobs has nothing below."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"this machine allows {hard} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    try:
        with ExitStack() as files:
            while files.enter_context(Path("/dev/null").open("rb")).fileno() < 1024:
                pass
            assert get(serve("127.0.0.1:0").port, "/livez")[0] == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_it_waits(serve: Serve) -> None:
    """A connection that cannot be accepted does not keep the processor busy until it can."""
    port = serve("127.0.0.1:0").port
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as client, ExitStack() as files:
        client.settimeout(TIMEOUT_SECONDS)
        highest = files.enter_context(Path("/dev/null").open("rb")).fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        try:
            client.connect(("127.0.0.1", port))
            began, busy = time.monotonic(), time.process_time()
            until(lambda: time.monotonic() - began > 0.3)
            assert time.process_time() - busy < 0.2
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.0 200 ")
