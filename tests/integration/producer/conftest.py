"""A client, a worker's side and control, on the emptied server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.client import Contract
from storage.queue.streams import JobStreams
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.clients import KINDS, open_client
from tests.support.control import Control
from tests.support.stream_workers import new_streams


@pytest.fixture(params=KINDS)
def ours(request: pytest.FixtureRequest, redis_server: EmbeddedRedis, client: Any) -> Iterator[Any]:
    """A client of either kind, of the emptied server."""
    yield from open_client(request.param, redis_server.url, contract=Contract(max_backlog=500))


@pytest.fixture
def streams(client: Any, keys: Keys) -> JobStreams:
    """A worker's side."""
    return new_streams(JobStreams, client, keys, "one", 30)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The audio store."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def control(client: Any, redis_server: EmbeddedRedis, store: Path) -> Iterator[Control]:
    """Control on an empty server, with pages of a hundred keys."""
    made = Control(redis_server.url, store)
    yield made
    made.close()
