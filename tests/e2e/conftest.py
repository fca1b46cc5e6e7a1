"""The programs as users start them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.console import browser
from tests.support.worker_process import ROOT

Program = Callable[..., subprocess.CompletedProcess[str]]


def run_program(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` there, away from a developer's .env, with these EMO_ variables alone."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=place,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Run `python -m …` in a directory of the test's own."""
    return partial(run_program, tmp_path)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests of a module."""
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, and room for logs."""
    made = tmp_path_factory.mktemp("console")
    (made / "store").mkdir()
    return made
