"""Pipelines for the unit tests, silence, and an environment without our settings."""

import os
from collections.abc import Iterator
from pathlib import Path
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


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of whoever runs the tests, and no .env of theirs."""
    for name in os.environ:
        if name.upper().startswith("EMO_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
