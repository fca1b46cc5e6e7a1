"""What a check says: lines, each with a state, and with what to do where something is wrong."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

_USUAL_SECONDS = 15.0


class State(StrEnum):
    """How it stands, the worse the later."""

    OK = "ok"
    SKIPPED = "skipped"  # the text says why
    WARN = "warn"  # works, and worse than it could
    FAIL = "fail"  # does not work, or loses work


@dataclass(frozen=True, slots=True)
class Line:
    """One finding. `see` is `page.md#anchor` below docs/."""

    state: State
    text: str
    todo: str = ""
    see: str = ""


def ok(text: str) -> Line:
    """All is well."""
    return Line(State.OK, text)


def skipped(why: str) -> Line:
    """It was not looked at."""
    return Line(State.SKIPPED, why)


def warn(text: str, todo: str, see: str) -> Line:
    """It works, and worse than it could."""
    return Line(State.WARN, text, todo, see)


def fail(text: str, todo: str, see: str) -> Line:
    """It does not work, or loses work."""
    return Line(State.FAIL, text, todo, see)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at. `needs`: a check of its category that must not fail first."""

    name: str
    look: Callable[[], Iterable[Line]]
    needs: str = ""
    limit_seconds: float = _USUAL_SECONDS


@dataclass(frozen=True, slots=True)
class Category:
    """Checks that are made one after another, beside those of other categories."""

    name: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A line, and which check of which category said it."""

    category: str
    check: str
    line: Line
