"""Servers guarded by our users, and what operators do to the queue."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from storage.queue.dead import DeadLetters
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.acl import GUARDS, Users, password
from tests.support.batches import Side
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.redis_servers import binary
from tests.support.stream_workers import Worker


@pytest.fixture
def letters(client: Any, keys: Keys) -> DeadLetters:
    """The operators' side."""
    return DeadLetters(client, keys=keys, max_backlog=1000)


@pytest.fixture(
    scope="package", params=GUARDS, ids=[f"{server}-{acl.name}" for server, acl in GUARDS]
)
def guard(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A server's name, and the file with its users."""
    chosen: tuple[str, Path] = request.param
    return chosen


@pytest.fixture(scope="package")
def guarded(
    guard: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedRedis]:
    """A server with our users, and no other."""
    program, users_file = guard
    directory = tmp_path_factory.mktemp("acl")
    file = directory / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")  # until it is known to be up
    options = ("--aclfile", str(file))
    with EmbeddedRedis(directory, binary=binary(program), options=options) as server:
        file.write_text(
            re.sub(
                r"#SHA256-OF-([a-z-]+)",
                lambda match: "#" + hashlib.sha256(password(match[1]).encode()).hexdigest(),
                users_file.read_text(),
            )
        )
        with connect(server.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
            client.acl_load()
        yield server


@pytest.fixture
def users(guarded: EmbeddedRedis) -> Iterator[Users]:
    """All users of the emptied server."""
    with ExitStack() as running:
        users = Users(guarded.port, running)
        users["admin"].flushall()
        users["admin"].script_flush()
        users["admin"].acl_log_reset()
        yield users


@pytest.fixture
def side(client: Any, keys: Keys, worker: Worker) -> Side:
    """With two workers whose leases run out at once."""
    return Side(client, keys, worker)
