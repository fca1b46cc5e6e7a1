"""The doctor's findings, as tests look at them."""

from collections.abc import Iterable, Sequence

from worker.doctor.examine import examine
from worker.doctor.findings import Category, Finding, State


def found(category: Category) -> dict[str, list[tuple[State, str]]]:
    """What each check of a category says: states, and text with what to do."""
    said: dict[str, list[tuple[State, str]]] = {}
    for finding in examine([category]):
        line = finding.line
        said.setdefault(finding.check, []).append((line.state, f"{line.text} | {line.todo}"))
        assert bool(line.todo) == bool(line.see) == (line.state in (State.WARN, State.FAIL))
    return said


def one(category: Category, check: str) -> tuple[State, str]:
    """What the only line of a check says."""
    (line,) = found(category)[check]
    return line


def bad(findings: Iterable[Finding]) -> dict[str, str]:
    """The checks that warn or fail, with all they say."""
    worse: dict[str, str] = {}
    for finding in findings:
        if finding.line.state in (State.WARN, State.FAIL):
            key = f"{finding.category}: {finding.check}"
            worse[key] = worse.get(key, "") + finding.line.text
    return worse


def states(findings: Sequence[Finding]) -> set[State]:
    """All that there are."""
    return {finding.line.state for finding in findings}
