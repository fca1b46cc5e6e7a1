"""The highest rate that keeps an objective."""

import time
from dataclasses import replace

import pytest

from producer.stress.report import Run, Step
from producer.stress.search import (
    CLOSE_ENOUGH,
    Hopeless,
    Objective,
    best,
    find_most,
    parse_objective,
)
from tests.support.stress_runs import run, shots


@pytest.fixture(scope="module")
def fine() -> Run:
    """A run of 50 ms."""
    return run()


@pytest.mark.parametrize(
    ("text", "told"),
    [("p99<2s", "p99<2000ms"), ("p90 <= 500ms", "p90<500ms"), ("p50<1.5s", "p50<1500ms")],
)
def test_objectives(text: str, told: str) -> None:
    """As people write them."""
    assert str(parse_objective(text)) == told


@pytest.mark.parametrize("text", ["", "p95<2s", "p99<2", "p99>2s", "p99<0s", "p99<nan s"])
def test_what_is_no_objective(text: str) -> None:
    """It is told how to write one."""
    with pytest.raises(ValueError, match="write it as p99<2s"):
        parse_objective(text)


@pytest.mark.parametrize("most", [0.37, 3.0, 47.0, 800.0])
def test_the_search_comes_close(most: float, fine: Run) -> None:
    """From below and from above, within a tenth, in few steps."""
    for first in (most / 3, most, 3 * most):
        steps = find_most(lambda rate: Step(rate, rate <= most, "", fine), first)
        found = best(steps)
        assert found is not None
        assert most / CLOSE_ENOUGH**1.1 <= found.rate <= most
        assert len(steps) <= 9


def test_a_search_ends(fine: Run) -> None:
    """Where no rate is low enough, where none is too high, and where the service is broken."""
    never = find_most(lambda rate: Step(rate, False, "", fine), 1.0)
    assert best(never) is None and never[-1].rate < 0.03
    assert len(find_most(lambda rate: Step(rate, True, "", fine), 1.0)) == 14
    broken = replace(fine, failed=("1 job: 2 ends",))
    assert len(find_most(lambda rate: Step(rate, True, "", broken), 1.0)) == 1


def test_a_run_is_judged_by_its_percentile(fine: Run) -> None:
    """A sender that gave out is no limit of the service's, and is called what it is."""
    assert Objective("p99", 60).judge(fine) == (True, "p99 50 ms")
    assert Objective("p90", 40).judge(fine) == (False, "p90 50 ms")
    slow = replace(fine, rates=replace(fine.rates, sent=90.0))
    assert "not the service's limit" in Objective("p99", 60).judge(slow)[1]
    stopped = replace(fine, stopped_early=True)
    assert not Objective("p99", 60).judge(stopped)[0]
    few = run(shots()[200:600])
    assert Objective("p99", 60).judge(few) == (False, "too few results for a p99")


def test_a_run_is_as_long_as_its_percentile_needs() -> None:
    """Four deviations more than the least."""
    assert Objective("p99", 1).seconds(10) == pytest.approx(54.5, abs=0.1)
    assert Objective("p50", 1).seconds(10) < 1


def test_a_hopeless_run_is_ended_early() -> None:
    """As soon as more than one of a hundred of all that is planned are too late."""
    now = time.monotonic()
    planned = [replace(x, intended=now + n / 100) for n, x in enumerate(shots()[200:])]
    for each in planned[:11]:
        each.ends = []
    hopeless = Hopeless(Objective("p99", 1000))
    assert not hopeless(planned, now + 1.0), "it is not time yet"
    assert not hopeless(planned, now + 1.34)
    assert hopeless(planned, now + 1.36)
