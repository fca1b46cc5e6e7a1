"""Probes and scrapes over HTTP."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.support.polling import TIMEOUT_SECONDS
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
            address, metrics, healthy=lambda: answers.healthy, ready=lambda: answers.ready
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
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz") == (200, "ok\n")
    answers.ready = False
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz") == (503, "no\n")
    answers.healthy = False
    assert get(port, "/healthz") == (503, "no\n")


def test_metrics_are_served(serve: Serve, metrics: Metrics) -> None:
    """In the Prometheus text format, by their own names alone."""
    metrics.outages.inc(3)
    metrics.observe_stage("fetch", 0.02)
    status, text = get(serve("127.0.0.1:0").port, "/metrics")
    assert status == 200
    assert "emostream_redis_outages_total 3.0\n" in text
    assert 'emostream_stage_seconds_bucket{le="0.03",stage="fetch"} 1.0\n' in text
    assert "python_gc" not in text


def test_a_silent_client_keeps_no_probe_waiting(serve: Serve) -> None:
    """One connection that never asks must not get the worker restarted."""
    port = serve("127.0.0.1:0").port
    with socket.create_connection(("127.0.0.1", port)):
        assert get(port, "/healthz")[0] == 200


def test_the_address_may_be_ipv6(serve: Serve) -> None:
    """Written in brackets, as in a URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert get(serve("[::1]:0").port, "/healthz", host="[::1]") == (200, "ok\n")


def test_a_stopped_server_lets_go_of_its_port(serve: Serve, metrics: Metrics) -> None:
    """The next worker on this address can start at once."""
    server = HealthServer("127.0.0.1:0", metrics, healthy=lambda: True, ready=lambda: True)
    server.start()
    port = server.port
    assert get(port, "/healthz")[0] == 200
    server.stop()
    assert get(serve(f"127.0.0.1:{port}").port, "/healthz")[0] == 200
