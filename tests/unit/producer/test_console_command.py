"""What `python -m producer console` says where it cannot start."""

import sys

import pytest
from typer.testing import CliRunner

import producer.console.app
from producer.cli import app


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_missing_extra_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the line that installs it, and no traceback."""
    # Imported anew it would take the place of the one that others' tests have.
    monkeypatch.setattr(producer, "console", producer.console)
    for name in [name for name in sys.modules if name.startswith("producer.console")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    ran = CliRunner().invoke(app, ["console"])
    assert ran.exit_code == 1
    assert missing in ran.output
    assert "pip install -e '.[console]'" in ran.output


def test_an_address_without_a_login_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is connected to; with all else that is wrong."""
    for name in ("EMO_REDIS_URL", "EMO_STORE", "EMO_CONSOLE_PASSWORD", "EMO_CONSOLE_OPEN"):
        monkeypatch.delenv(name, raising=False)
    ran = CliRunner().invoke(app, ["console", "--address", "0.0.0.0:8642"])
    assert ran.exit_code == 2
    for said in ("EMO_CONSOLE_PASSWORD", "EMO_REDIS_URL: required", "EMO_STORE: required"):
        assert said in ran.output
