"""Whether a server may lose jobs, as it tells itself."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from storage.redis.connection import Client, UnfitServer
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


class Reticent:
    """A hosted server that leaves out of INFO what it would be judged by."""

    def info(self, _section: str) -> dict[str, object]:
        """Nothing of use."""
        return {"used_memory": 1}


def test_a_server_that_does_not_tell_is_not_taken_to_be_durable() -> None:
    """Neither its policy nor its file can be seen, which is said of each."""
    evicts, forgets = weaknesses(cast(Client, Reticent()))
    assert "does not tell its maxmemory-policy" in evicts
    assert "does not tell whether it has an append-only file" in forgets
