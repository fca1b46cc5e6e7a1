"""`doctor`: how it ends."""

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from worker.cli import app
from worker.doctor.findings import Finding, Line, State


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("state", State)
def test_the_exit_status_is_that_of_the_worst(
    state: State, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 where something fails; where something warns only if that is asked for."""

    def found(*_: object, **__: object) -> Iterator[Finding]:
        yield Finding("c", "first", Line(State.OK, "fine"))
        yield Finding("c", "second", Line(state, "as said"))

    monkeypatch.setattr("worker.doctor.examination.examination", found)
    monkeypatch.setattr("worker.commands.doctor.hide_memory", lambda: None)
    monkeypatch.setattr("storage.terminal.logs.configure", lambda level: None)
    ended = CliRunner().invoke(app, ["doctor", *["--strict"] * strict])
    failed = state is State.FAIL or (strict and state is State.WARN)
    assert (ended.exit_code, "as said" in ended.output) == (int(failed), True)
