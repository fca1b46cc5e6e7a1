"""Programs beside the workers, told something by a name that is misspelt."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from producer.cli import app

# Where each begins to serve, and what is misspelt of its own.
SERVES = {
    "control": ("producer.control.program.run", "EMO_WEBHOOK_HOST"),
    "exporter": ("producer.exporter.program.run", "EMO_EXPORTER_ADRESS"),
    "console": ("producer.console.serve.serve", "EMO_CONSOLE_HOST"),
}


@pytest.fixture
def _quiet_afterwards() -> Iterator[None]:
    """What a program has configured does not outlive it."""
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("clean_environment", "_quiet_afterwards")
@pytest.mark.parametrize("program", SERVES)
def test_a_misspelt_name_is_said_before_it_serves(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the environment and one of `.env`; those of the other programs are no fault."""
    serves, misspelt = SERVES[program]
    served: list[Any] = []
    monkeypatch.setattr(serves, lambda *settings: served.append(settings))
    monkeypatch.setattr("producer.control.program.check", lambda _: None)
    monkeypatch.setattr("producer.client.Client.check", lambda _: None)
    (tmp_path / ".env").write_text(f"EMO_REDS_URL=x\n{misspelt}=x\nEMO_LEASE_SECONDS=5\n")
    variables = {"EMO_REDIS_URL": "redis://127.0.0.1:1", "EMO_STORE": "file:///nowhere"}
    monkeypatch.setenv("EMO_BACKLOG", "5")
    monkeypatch.setenv("EMO_WEBHOOK_HTTP", "true")
    monkeypatch.setenv("EMO_CONSOLE_WRITE", "true")
    ran = CliRunner().invoke(app, [program], env=variables)
    assert (ran.exit_code, len(served)) == (0, 1), ran.output
    said = [json.loads(line) for line in ran.stderr.splitlines() if line.startswith("{")]
    assert [(each["event"], each["level"]) for each in said] == [
        ("settings.unknown", "warning")
    ] * 3
    assert {each["variable"] for each in said} == {"EMO_BACKLOG", "EMO_REDS_URL", misspelt}
