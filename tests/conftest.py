"""Real servers for all tests: one Redis for the whole run, emptied before each test."""

from collections.abc import Iterator
from typing import Any

import pytest

from storage.connection import connect
from storage.embedded import EmbeddedRedis
from storage.messages import Keys


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real server that lives as long as the test run."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(redis_server: EmbeddedRedis) -> Iterator[Any]:
    """A client of the emptied server; Any, since redis-py types a reply as every possible one."""
    with connect(redis_server.url, name="test") as client:
        client.flushall()
        yield client


@pytest.fixture
def keys() -> Keys:
    """The key names under the default prefix."""
    return Keys("emo")
