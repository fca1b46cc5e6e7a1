"""A console in this process, on a real Redis and a directory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from producer.client import Client, Contract
from producer.console.app import application
from producer.console.settings import ConsoleSettings
from storage.redis.embedded import EmbeddedRedis

OURS = {"x-emostream": "1"}
Open = Callable[..., TestClient]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The directory that is its store."""
    made = tmp_path / "store"
    made.mkdir()
    return made


@pytest.fixture
def console(redis_server: EmbeddedRedis, client: Any, store: Path) -> Iterator[Open]:
    """Open a console with these settings; what it asks for is named as a browser would."""
    opened: list[TestClient] = []
    queues: list[Client] = []

    def make(*, base_url: str = "http://127.0.0.1:8642", **settings: Any) -> TestClient:
        given: dict[str, Any] = {"console_write": True, "_env_file": None, **settings}
        given = {"redis_url": redis_server.url, **given}
        chosen = ConsoleSettings(store=store.as_uri(), **given)
        queues.append(Client(chosen.redis_url, Contract.of(chosen)))
        opened.append(TestClient(application(chosen, queues[-1]), base_url, headers=OURS))
        opened[-1].__enter__()
        return opened[-1]

    yield make
    for each in opened:
        each.__exit__()
    for queue in queues:
        queue.close()
