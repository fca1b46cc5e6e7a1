"""Findings as a table for people, and as JSON for programs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from storage.terminal.text import cell
from worker.doctor.findings import Finding, State

# Words, so that neither colour nor a font is needed.
_MARKS = {
    State.OK: Text("ok", "green"),
    State.SKIPPED: Text("skip", "dim"),
    State.WARN: Text("WARN", "bold yellow"),
    State.FAIL: Text("FAIL", "bold red"),
}
_COUNTED = {
    State.FAIL: ("fault", "faults"),
    State.WARN: ("warning", "warnings"),
    State.OK: ("ok", "ok"),
    State.SKIPPED: ("skipped", "skipped"),
}


def worst(findings: Sequence[Finding]) -> State:
    """Of all findings; what was skipped is no worse than what is well."""
    states = {finding.line.state for finding in findings}
    return next((state for state in (State.FAIL, State.WARN) if state in states), State.OK)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """One object: the worst state, how many there are of each, and each finding."""
    counts = Counter(finding.line.state.value for finding in findings)
    return {
        "state": worst(findings).value,
        "counts": {state.value: counts[state.value] for state in State},
        "findings": [
            {
                "category": finding.category,
                "check": finding.check,
                "state": finding.line.state.value,
                "text": finding.line.text,
                "todo": finding.line.todo,
                "see": f"docs/{finding.line.see}" if finding.line.see else "",
            }
            for finding in findings
        ],
    }


def table(findings: Sequence[Finding]) -> RenderableType:
    """The findings by category, and a line that sums them up."""
    parts: list[RenderableType] = []
    width = max((len(finding.check) for finding in findings), default=0)
    for category in dict.fromkeys(finding.category for finding in findings):
        sheet = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
        sheet.title = Text(category, "bold")
        sheet.add_column(no_wrap=True, min_width=6)
        sheet.add_column(no_wrap=True, min_width=width)
        sheet.add_column(overflow="fold")
        of_it = [finding for finding in findings if finding.category == category]
        for _, same in groupby(of_it, key=_alike):
            for row in _rows(list(same)):
                sheet.add_row(*row)
        parts += [sheet, ""]
    return Group(*parts, Text(_summary(findings), "bold"))


def _alike(finding: Finding) -> object:
    """What is skipped for the same reason is said once."""
    return finding.line if finding.line.state is State.SKIPPED else id(finding)


def _rows(findings: Sequence[Finding]) -> Iterator[tuple[Text, Text, Text]]:
    """Of one finding, or of several that were skipped alike."""
    first, *others = findings
    line = first.line
    text = line.text
    if others:
        text = f"{text}; nor {', '.join(finding.check for finding in others)}"
    yield Text("  ") + _MARKS[line.state], cell(first.check), cell(text)
    if line.todo:
        yield Text(), Text(), Text("do:  ") + cell(line.todo)
    if line.see:
        yield Text(), Text(), Text("see: ") + cell(f"docs/{line.see}")


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.line.state for finding in findings)
    told = ", ".join(
        f"{counts[state]} {_COUNTED[state][counts[state] != 1]}"
        for state in _COUNTED
        if counts[state]
    )
    verdict = {
        State.OK: "all is well",
        State.WARN: "works, and could work better",
        State.FAIL: "will not work as it is",
    }[worst(findings)]
    return f"{verdict}: {told}"
