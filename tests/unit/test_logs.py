"""Log events: one JSON object a line."""

import json
from typing import Any

import pytest
import structlog

from worker import logs


@pytest.fixture(autouse=True)
def restored() -> Any:
    """Leave structlog as it was."""
    yield
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged; nothing goes to standard output, where results go."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With its name, level, time and fields, whatever is in them."""
    logs.configure("info")
    structlog.get_logger("x").warning("job.failed", job="ä\n1", code=7, raw=b"\xff")
    (line,) = lines(capsys)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job.failed",
        "level": "warning",
        "job": "ä\n1",
        "code": 7,
        "raw": "b'\\xff'",
    }


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """The level is the least that is shown."""
    logs.configure("warning")
    log = structlog.get_logger("x")
    log.info("quiet")
    log.warning("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_loggers_made_before_obey(capsys: pytest.CaptureFixture[str]) -> None:
    """Modules make theirs at import, long before the settings are read."""
    log = structlog.get_logger("x")
    logs.configure("error")
    log.warning("quiet")
    logs.configure("debug")
    log.debug("loud")
    assert [line["event"] for line in lines(capsys)] == ["loud"]


def test_an_exception_is_in_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback is a field, so that it is not torn apart."""
    logs.configure("info")
    try:
        raise ValueError("boom")
    except ValueError as error:
        structlog.get_logger("x").error("stage.failed", exc_info=error)
    (line,) = lines(capsys)
    assert "ValueError: boom" in line["exception"]
    assert "Traceback" in line["exception"]
