"""Checks that fail, hang or tell secrets, and what is made of all that was found."""

import ast
import io
import re
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from tests.unit.test_docs import ROOT, anchors
from worker.doctor import device, sound
from worker.doctor.examination import examination, secrets_of, without_settings
from worker.doctor.examine import examine
from worker.doctor.findings import Category, Check, Finding, Line, State, fail, ok, skipped, warn
from worker.doctor.show import as_json, table, worst
from worker.settings import WorkerSettings

SEE = "doctor.md#redis"


def checked(*checks: Check, secrets: Iterable[str] = ()) -> list[tuple[str, Line]]:
    """What they say, as one category."""
    found = examine([Category("c", checks)], secrets=list(secrets))
    return [(finding.check, finding.line) for finding in found]


def saying(*lines: Line) -> Callable[[], Iterable[Line]]:
    """A check that says this."""
    return lambda: lines


def test_a_check_that_raises_hides_no_other() -> None:
    """It is a fault itself, with the error."""

    def broken() -> Iterator[Line]:
        yield ok("said before")
        raise ZeroDivisionError("by what?")

    first, second = checked(Check("a", broken), Check("b", saying(ok("fine"))))
    assert first[1].state is State.FAIL
    assert "ZeroDivisionError: by what?" in first[1].text
    assert second == ("b", ok("fine"))


def test_a_check_that_hangs_is_left_alone() -> None:
    """After its time; others go on meanwhile, in other categories, and afterwards."""
    over = threading.Event()

    def hanging() -> Iterable[Line]:
        over.wait()
        return []

    slow = Category("slow", (Check("hangs", hanging, limit_seconds=0.05), Check("next", saying())))
    quick = Category("quick", (Check("a", saying(ok("fine"))),))
    findings = list(examine([slow, quick]))
    over.set()
    assert [(each.category, each.check, each.line.state) for each in findings] == [
        ("slow", "hangs", State.FAIL),
        ("quick", "a", State.OK),
    ]
    assert "no answer within 0.05 s" in findings[0].line.text


@pytest.mark.parametrize("state", State)
def test_what_needs_another_is_skipped_where_that_failed(state: State) -> None:
    """And so is what needs that in turn; nothing else is a reason."""
    lines = checked(
        Check("first", saying(Line(state, "said"), ok("said"))),
        Check("second", saying(ok("made")), needs="first"),
        Check("third", saying(ok("made")), needs="second"),
    )
    made = state is not State.FAIL
    assert [line.text for _, line in lines[2:]] == (
        ["made", "made"]
        if made
        else ["not looked at: first comes first", "not looked at: first comes first"]
    )


def test_no_secret_is_said_whoever_says_it() -> None:
    """Even by an error that nobody expected."""

    def leaky() -> Iterable[Line]:
        raise ValueError("http://user:hush-hush@host/?key=abc")

    (line,) = checked(Check("a", leaky), secrets=["hush-hush", "hush", ""])
    assert "http://user:…@host/?key=abc" in line[1].text
    settings = WorkerSettings(
        redis_url="redis+sentinel://u:one%2F@a:1/m?sentinel_password=two",
        s3_access_key="k",
        s3_secret_key="three",
    )
    assert {"one/", "two", "three"} <= set(secrets_of(settings))


FINDINGS = [
    Finding("a", "first", ok("fine")),
    Finding("a", "second", skipped("no [bold]reason")),
    Finding("a", "third", skipped("no [bold]reason")),
    Finding("b", "fourth", warn("slow", "hurry", SEE)),
    Finding("b", "fifth", fail("\x1b[31mbroken", "mend it", SEE)),
]


def test_findings_are_read_without_colours() -> None:
    """By words; what others wrote steers no terminal; what was skipped alike is said once."""
    page = io.StringIO()
    Console(file=page, width=80).print(table(FINDINGS))
    lines = [" ".join(line.split()) for line in page.getvalue().splitlines()]
    assert lines == [
        *("a", "ok first fine", "skip second no [bold]reason; nor third", ""),
        *("b", "WARN fourth slow", "do: hurry", f"see: docs/{SEE}"),
        *(r"FAIL fifth \x1b[31mbroken", "do: mend it", f"see: docs/{SEE}", ""),
        "will not work as it is: 1 fault, 1 warning, 1 ok, 2 skipped",
    ]
    Console(file=io.TextIOWrapper(io.BytesIO(), "ascii"), width=80).print(table(FINDINGS))


def test_findings_for_programs() -> None:
    """One object, with nothing left out."""
    found = as_json(FINDINGS)
    assert found["state"] == "fail"
    assert found["counts"] == {"ok": 1, "skipped": 2, "warn": 1, "fail": 1}
    assert found["findings"][3] == {
        **{"category": "b", "check": "fourth", "state": "warn"},
        **{"text": "slow", "todo": "hurry", "see": f"docs/{SEE}"},
    }


@pytest.mark.parametrize(
    ("number", "state"), [(1, State.OK), (3, State.OK), (4, State.WARN), (5, State.FAIL)]
)
def test_the_worst_decides(number: int, state: State) -> None:
    """What was skipped is not among it."""
    assert worst(FINDINGS[:number]) is state


@pytest.mark.usefixtures("clean_environment")
def test_wrong_settings_are_a_fault_like_others() -> None:
    """Each is named, and what needs none is looked at."""
    findings = list(without_settings(["EMO_A=1: wrong", "EMO_B: required"]))
    assert [each.line.state for each in findings] == [State.FAIL, State.FAIL, State.OK]
    assert findings[0].line.text == "EMO_A=1: wrong"


@pytest.mark.usefixtures("clean_environment")
def test_beside_wrong_settings_misspelt_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them at once: one that is required may be missing because it is misspelt."""
    (tmp_path / ".env").write_text("EMO_DECODE_PROCESES=4\n")
    monkeypatch.setenv("EMO_REDS_URL", "redis://host")
    findings = list(without_settings(["EMO_REDIS_URL: required"]))
    states = [State.FAIL, State.WARN, State.WARN, State.OK]
    assert [each.line.state for each in findings] == states
    named = [each.line.text.partition(":")[0] for each in findings[1:3]]
    assert named == ["EMO_DECODE_PROCESES", "EMO_REDS_URL"]


def test_before_anything_is_started_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Redis, no store, no weights: they are not even named."""
    made: list[str] = []

    def noted(categories: Iterable[Category], **_: object) -> Iterator[Finding]:
        made.extend(category.name for category in categories)
        return iter(())

    monkeypatch.setattr("worker.doctor.examination.examine", noted)
    list(examination(WorkerSettings(), pre=True))
    assert made == ["settings", "machine", "torch", "decoding"]
    list(examination(WorkerSettings()))
    assert made[8:] == ["Redis", "store", "model", "workers"]


def test_misspelt_and_careless_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that no setting has, and a password that all on the way can read."""
    monkeypatch.setenv("EMO_REDS_URL", "x")
    monkeypatch.setattr("worker.doctor.examination.machine", lambda _: Category("machine", ()))
    monkeypatch.setattr("worker.doctor.examination.sound", lambda _: Category("decoding", ()))
    monkeypatch.setattr(device.Torch, "category", lambda _: Category("torch", ()))
    settings = WorkerSettings(redis_url="redis://u:hush@example.org/0")
    first, second = examination(settings, pre=True)
    assert (first.line.state, "EMO_REDS_URL" in first.line.text) == (State.WARN, True)
    assert (second.line.state, "example.org" in second.line.text) == (State.WARN, True)


def _named() -> Iterator[str]:
    """Each page and heading that a check refers to."""
    for source in sorted((ROOT / "worker" / "doctor").glob("*.py")):
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from re.findall(r"^[a-z]+\.md(?:#.+)?$", node.value)


@pytest.mark.parametrize("see", sorted(set(_named())))
def test_what_a_check_refers_to_is_there(see: str) -> None:
    """A heading of a page below docs/."""
    page, _, anchor = see.partition("#")
    assert anchor in anchors(ROOT / "docs" / page)


def test_versions_are_those_that_are_asked_for() -> None:
    """What is called tested is what pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {each.name: each.specifier for each in map(Requirement, project["dependencies"])}
    assert asked["torch"] == Requirement(f"torch{device.TORCH}").specifier
    for name, oldest, too_new in (
        ("torch", device.OLDEST_TORCH, device.FIRST_TOO_NEW_TORCH),
        ("av", sound.OLDEST_AV, sound.FIRST_TOO_NEW_AV),
    ):
        bounds = {f">={'.'.join(map(str, oldest))}", f"<{'.'.join(map(str, too_new))}"}
        assert {str(bound) for bound in asked[name]} == bounds


def test_pages_are_read_from_the_repository() -> None:
    """Or the test above would look at nothing."""
    assert len(set(_named())) > 15
    assert (Path(ROOT) / "docs" / "doctor.md").exists()
