"""A queue of webhooks for the tests of senders."""

from typing import Any

import pytest

from storage.wire.messages import Keys
from tests.support.stream_workers import Worker
from tests.support.webhook_post import Post


@pytest.fixture
def post(client: Any, keys: Keys, worker: Worker) -> Post:
    """An empty one."""
    return Post(client, keys, worker)
