"""Probes and scrapes over HTTP."""

import socket
import threading
import time

import pytest
from structlog.testing import capture_logs
from waitress.trigger import trigger

from tests.support.polling import until
from tests.support.ports import own_port
from tests.support.probes import get
from tests.unit.telemetry.conftest import Answers, Serve
from worker.telemetry.health import HealthServer
from worker.telemetry.metrics import Metrics


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
