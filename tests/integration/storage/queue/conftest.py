"""What operators do to the queue."""

from typing import Any

import pytest

from storage.queue.dead import DeadLetters
from storage.wire.messages import Keys


@pytest.fixture
def letters(client: Any, keys: Keys) -> DeadLetters:
    """The operators' side."""
    return DeadLetters(client, keys=keys, max_backlog=1000)
