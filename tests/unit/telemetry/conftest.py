"""Servers of probes, and the worker that they speak of."""

from collections.abc import Callable, Iterator

import pytest

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
