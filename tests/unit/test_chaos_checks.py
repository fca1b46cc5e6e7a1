"""What the harnesses of chaos and attacks call held: a check that cannot fail says nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from storage.wire.messages import Lane
from tests.attacks import __main__ as attacks
from tests.chaos.checks import Check, Inspection, check, table, untested
from tests.chaos.kinds import Kind
from tests.chaos.ledger import Entry, Ledger
from tests.chaos.plan import PlannedJob, Way

DEADLY = PlannedJob(0, 0.0, Kind.KILL_WORKER, "a.wav", "", Lane.NORMAL, Way.NAMED_XADD)


def letters(*runs: str, job: str = "x") -> list[dict[str, str]]:
    """Dead letters of those runs of a job."""
    return [{"_job": job, "_run": run} for run in runs]


def dead_of(found: list[dict[str, str]], told: list[dict[str, str]]) -> Check:
    """What is said of the letters of a job that died in two runs."""
    arena: Any = SimpleNamespace(results=dict, events=lambda: told, letters=lambda: found)
    return Inspection(arena, Ledger({"x": Entry(DEADLY)}), {})._dead()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (letters("1", "2"), ""),
        (letters("1"), "x: run 2 ended as dead, and 0 letters tell of it"),
        ([], "x: run 1 ended as dead, and 0 letters tell of it"),
        (letters("1", "2", "2"), "x: run 2 ended as dead, and 2 letters tell of it"),
        (letters("1", "2", "3"), "x: a letter tells of run 3, which did not end as dead"),
        (letters("1", "2") + letters("1", job="y"), "y: "),
    ],
)
def test_each_dead_job_has_its_letter(found: list[dict[str, str]], said: str) -> None:
    """One for each run that ended so, and none else."""
    told = [{"job": "x", "run": run, "status": "dead"} for run in ("1", "2")]
    checked = dead_of(found, told)
    assert checked.held == (not said)
    assert said in "\n".join(checked.problems)


@pytest.mark.parametrize(
    ("checks", "status", "said"),
    [
        ([check("a", "1 of 1")], 0, "PASS  a  1 of 1"),
        ([check("a", "", ["it broke"])], 1, "FAIL  a"),
        ([check("a", "1 of 1"), untested("b", "no right to mount")], 3, "SKIP  b  not tested: no"),
        ([check("a", "", ["it broke"]), untested("b", "no right")], 1, "FAIL  a"),
    ],
)
def test_what_was_not_tested_did_not_hold(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checks: list[Check],
    status: int,
    said: str,
) -> None:
    """It is said as that, with an exit status of its own, unless something else broke."""

    def attack(directory: Path) -> list[Check]:
        return checks

    monkeypatch.setattr(attacks, "ATTACKS", {"some": attack})
    assert attacks.main([]) == status
    assert said in capsys.readouterr().out
    assert attacks.main(["other"]) == 2
    assert said in table(checks)
