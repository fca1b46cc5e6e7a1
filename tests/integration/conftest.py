"""Workers for the tests against real servers."""

from typing import Any

import pytest

from storage.messages import Keys
from storage.streams import JobStreams
from tests.stream_workers import Worker, new_streams


@pytest.fixture
def worker(client: Any, keys: Keys) -> Worker:
    """Make workers' sides of the protocol, by owner name, with leases that run out at once."""

    def make(owner: str = "one", lease_seconds: float = 0.001) -> JobStreams:
        return new_streams(JobStreams, client, keys, owner, lease_seconds)

    return make
