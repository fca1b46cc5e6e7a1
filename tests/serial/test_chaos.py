"""The chaos harness, as far as there is time for it in every test run: see docs/delivery.md."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checks import table
from tests.chaos.fleet import Nursery, nursery
from tests.chaos.plan import draw, draw_batch
from tests.chaos.random_run import run
from tests.chaos.scenarios import SCENARIOS, play


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """What forks all workers of these tests: torch is imported once."""
    with nursery(tmp_path_factory.mktemp("nursery")) as running:
        yield running


# First, for it is the longest: the scenarios are played meanwhile.
@pytest.mark.timeout(300)
def test_thirty_seconds_of_random_faults(parent: Nursery, tmp_path: Path) -> None:
    """Kills, stops, drains and outages in any order: every job ends once, as its kind must."""
    report = run(draw(seed=1, seconds=30, workers=3), tmp_path, parent, print)
    assert report.held, f"\n{table(report.checks)}"


def test_a_sealed_batch_completes_amid_faults(parent: Nursery, tmp_path: Path) -> None:
    """Its counts are those of its jobs, and it tells once that it is complete."""
    report = run(draw_batch(seed=1, jobs=300, workers=3), tmp_path, parent, print)
    assert report.held, f"\n{table(report.checks)}"


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name: str, parent: Nursery, tmp_path: Path) -> None:
    """A scripted fault breaks no promise; each scenario says which."""
    checks = play(name, tmp_path, parent)
    assert all(check.held for check in checks), f"\n{table(checks)}"


def test_a_plan_is_drawn_from_its_seed_alone() -> None:
    """The same seed gives the same jobs and faults, another seed others."""
    assert draw(7, 20, 3) == draw(7, 20, 3)
    assert draw(7, 20, 3).describe() != draw(8, 20, 3).describe()
