"""Whether a server may lose jobs, as it tells itself."""

from collections.abc import Iterator
from typing import Any

import pytest

from storage.redis.connection import UnfitServer
from storage.redis.durability import weaknesses
from storage.redis.embedded import EmbeddedRedis
from worker.settings import WorkerSettings
from worker.stores import check_services


@pytest.fixture
def careless(client: Any) -> Iterator[Any]:
    """A server that evicts keys and writes nothing down; put right afterwards."""
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")
    yield client
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("appendonly", "yes")


def test_a_server_as_we_start_it_is_durable(client: Any) -> None:
    """It appends, and refuses what does not fit."""
    assert weaknesses(client) == []


def test_each_weakness_is_named_with_its_cure(careless: Any) -> None:
    """By the setting that is wrong."""
    evicts, forgets = weaknesses(careless)
    assert "allkeys-lru" in evicts
    assert "appendonly yes" in forgets


def test_it_is_refused_where_that_is_asked_for(careless: Any, redis_server: EmbeddedRedis) -> None:
    """And only there."""
    check_services(WorkerSettings(redis_url=redis_server.url))
    with pytest.raises(UnfitServer, match=r"allkeys-lru[^$]*appendonly"):
        check_services(WorkerSettings(redis_url=redis_server.url, require_durable_redis=True))
