"""Makes the checks: categories side by side, each check within its time and whatever others do."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from worker.doctor.findings import Category, Check, Finding, Line, State, fail, skipped

_TROUBLE = "doctor.md#when-a-check-itself-fails"
_LEAST_SECRET = 3  # characters; shorter ones are in every word


def examine(categories: Sequence[Category], *, secrets: Sequence[str] = ()) -> Iterator[Finding]:
    """What all checks say, category by category in their order.

    A check that raises is a fault, and so is one that takes longer than its time: what it waits for
    is then left alone. Of `secrets` nothing is said, wherever it stands.
    """
    hidden = sorted({each for each in secrets if len(each) >= _LEAST_SECRET}, key=len)[::-1]
    found = [queue.SimpleQueue[Sequence[Finding]]() for _ in categories]
    for category, into in zip(categories, found, strict=True):
        _thread(category.name, lambda category=category, into=into: into.put(_all(category)))
    for each in found:
        for finding in each.get():
            yield replace(finding, line=_without(hidden, finding.line))


def _all(category: Category) -> list[Finding]:
    """What the checks of one category say, in order."""
    failed: dict[str, str] = {}  # or not looked at: for which one
    findings = []
    for check in category.checks:
        if reason := failed.get(check.needs):
            lines = [skipped(f"not looked at: {reason} comes first")]
            failed[check.name] = reason
        else:
            lines = _within_time(check)
        if any(line.state is State.FAIL for line in lines):
            failed[check.name] = check.name
        findings += [Finding(category.name, check.name, line) for line in lines]
    return findings


def _within_time(check: Check) -> list[Line]:
    """What one check says."""
    answer: queue.SimpleQueue[list[Line]] = queue.SimpleQueue()
    _thread(check.name, lambda: answer.put(_safely(check)))
    try:
        return answer.get(timeout=check.limit_seconds)
    except queue.Empty:
        return [
            fail(
                f"no answer within {check.limit_seconds:g} s",
                "find out what hangs: a disk, a mount, a driver, or a network that drops packets",
                _TROUBLE,
            )
        ]


def _safely(check: Check) -> list[Line]:
    try:
        return list(check.look())
    except Exception as error:
        text = f"the check itself failed: {type(error).__name__}: {error}"
        return [fail(text, "if that names nothing that you know: report it", _TROUBLE)]


def _without(secrets: Sequence[str], line: Line) -> Line:
    text, todo = line.text, line.todo
    for secret in secrets:
        text, todo = text.replace(secret, "…"), todo.replace(secret, "…")
    return replace(line, text=text, todo=todo)


def _thread(name: str, target: object) -> None:
    threading.Thread(target=target, name=f"doctor-{name}", daemon=True).start()  # type: ignore[arg-type]
