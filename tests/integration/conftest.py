"""Workers for the tests against real servers."""

from typing import Any

import pytest

from storage.queue.streams import JobStreams
from storage.wire.messages import Keys
from tests.support.redis_servers import SERVERS
from tests.support.stream_workers import Worker, new_streams


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test here that uses the Redis server runs on each of the servers."""
    if "redis_server" in metafunc.fixturenames:
        metafunc.parametrize("redis_server", SERVERS, indirect=True, scope="session")


@pytest.fixture
def worker(client: Any, keys: Keys) -> Worker:
    """Make workers' sides of the protocol, by owner name, with leases that run out at once."""

    def make(owner: str = "one", lease_seconds: float = 0.001) -> JobStreams:
        return new_streams(JobStreams, client, keys, owner, lease_seconds)

    return make
