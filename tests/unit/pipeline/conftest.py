"""Time that passes when told to, and the progress by it."""

import pytest

from tests.support.pipeline_bench import Clock
from worker.pipeline.progress import Progress


@pytest.fixture
def clock() -> Clock:
    """Time that passes when told to."""
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> Progress:
    """By that clock."""
    return Progress(clock)
