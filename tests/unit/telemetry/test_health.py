"""Probes and scrapes over HTTP."""

import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from waitress.trigger import trigger

from storage.serving.bounded_server import MOST_CONNECTIONS
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.ports import own_port
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics


class Answers:
    """What the worker says of itself."""

    healthy = True
    ready = True


Serve = Callable[[str], HealthServer]


@pytest.fixture
def answers() -> Answers:
    """A worker that is healthy and ready."""
    return Answers()


@pytest.fixture
def metrics() -> Metrics:
    """The metrics that are served."""
    return Metrics()


@pytest.fixture
def serve(answers: Answers, metrics: Metrics) -> Iterator[Serve]:
    """Start servers that end with the test."""
    started: list[HealthServer] = []

    def start(address: str) -> HealthServer:
        server = HealthServer(
            address, metrics, alive=lambda: answers.healthy, ready=lambda: answers.ready
        )
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(
            f"http://{host}:{port}{path}", timeout=TIMEOUT_SECONDS
        ) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_probes_tell_the_two_apart(serve: Serve, answers: Answers) -> None:
    """A worker that has lost Redis is healthy, and takes no jobs."""
    port = serve("127.0.0.1:0").port
    assert get(port, "/livez") == (200, "ok\n")
    assert get(port, "/readyz") == (200, "ok\n")
    answers.ready = False
    assert get(port, "/livez") == (200, "ok\n")
    assert get(port, "/readyz") == (503, "no\n")
    answers.healthy = False
    assert get(port, "/livez") == (503, "no\n")


def test_metrics_are_served(serve: Serve, metrics: Metrics) -> None:
    """In the Prometheus text format, by their own names alone."""
    metrics.outages.inc(3)
    metrics.observe_stage("fetch", 0.02)
    status, text = get(serve("127.0.0.1:0").port, "/metrics")
    assert status == 200
    assert "emostream_redis_outages_total 3.0\n" in text
    assert 'emostream_stage_seconds_bucket{le="0.03",stage="fetch"} 1.0\n' in text
    assert "python_gc" not in text


def test_the_probe_has_an_older_name(serve: Serve, answers: Answers) -> None:
    """`/healthz` says what `/livez` says."""
    port = serve("127.0.0.1:0").port
    assert get(port, "/healthz")[0] == 200
    answers.healthy = False
    assert get(port, "/healthz")[0] == get(port, "/livez")[0] == 503


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
            clients = [
                slow.enter_context(
                    socket.create_connection(("127.0.0.1", server.port), TIMEOUT_SECONDS)
                )
                for _ in range(2)
            ]
            clients[0].sendall(HALF_A_HEADER)
            began = time.monotonic()
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


def test_a_fault_in_a_probe_is_logged(metrics: Metrics) -> None:
    """With its traceback, as an event; and the server goes on."""

    def fail() -> bool:
        raise ValueError("a fault of the tests")

    server = HealthServer("127.0.0.1:0", metrics, alive=fail, ready=lambda: True)
    server.start()
    try:
        with capture_logs() as logs:
            assert get(server.port, "/livez")[0] == 500
        assert get(server.port, "/readyz")[0] == 200
    finally:
        server.stop()
    assert [entry["event"] for entry in logs] == ["health.failed"]
    assert isinstance(logs[0]["exc_info"][1], ValueError)


def test_threads_end_with_the_server(metrics: Metrics) -> None:
    """A stopped server leaves nothing running."""
    before = threading.active_count()
    server = HealthServer("127.0.0.1:0", metrics, alive=lambda: True, ready=lambda: True)
    server.start()
    assert get(server.port, "/livez")[0] == 200
    server.stop()
    until(lambda: threading.active_count() <= before)  # others' may end meanwhile


def test_a_stop_writes_to_no_descriptor_that_is_closed(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may wake the server before the stop does, and its pipe be another file by then."""
    pull = trigger._physical_pull

    def pull_twice(pipe: trigger) -> None:
        pull(pipe)
        waited_from = time.monotonic()
        until(lambda: "health" not in threads() or time.monotonic() - waited_from > 0.1)
        pull(pipe)

    server = HealthServer("127.0.0.1:0", metrics, alive=lambda: True, ready=lambda: True)
    server.start()
    monkeypatch.setattr(trigger, "_physical_pull", pull_twice)
    server.stop()
    assert "health" not in threads()


def threads() -> set[str]:
    """The names of those that run."""
    return {thread.name for thread in threading.enumerate()}


def test_the_address_may_be_ipv6(serve: Serve) -> None:
    """Written in brackets, as in a URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert get(serve("[::1]:0").port, "/livez", host="[::1]") == (200, "ok\n")


def test_a_stopped_server_lets_go_of_its_port(serve: Serve, metrics: Metrics) -> None:
    """The next worker on this address can start at once."""
    port = own_port()
    server = HealthServer(f"127.0.0.1:{port}", metrics, alive=lambda: True, ready=lambda: True)
    server.start()
    assert get(port, "/livez")[0] == 200
    server.stop()
    assert get(serve(f"127.0.0.1:{port}").port, "/livez")[0] == 200
