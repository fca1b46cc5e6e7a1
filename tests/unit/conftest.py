"""Pipelines for the unit tests, and silence."""

from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.pipeline_bench import Bench, MakeBench


@pytest.fixture
def bench() -> Iterator[MakeBench]:
    """Make started pipelines that end with the test, and leave no thread behind."""
    made: list[Bench] = []

    def make(*args: Any, **options: Any) -> Bench:
        made.append(Bench(*args, **options))
        made[-1].pipeline.start()
        return made[-1]

    with capture_logs():  # a printed traceback takes half a second
        yield make
        for each in made:
            each.end()
