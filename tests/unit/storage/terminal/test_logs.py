"""Log events: one JSON object a line."""

import errno
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from storage.terminal import logs
from storage.terminal.text import plain


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


def test_a_full_disk_under_the_log_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written is lost; whoever said it goes on, as it would with a closed stream."""
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        logs.configure("info")
        with pytest.raises(OSError, match="No space left"):
            print("a line", file=full, flush=True)
        for _ in range(1000):  # more than any buffer holds
            structlog.get_logger("x").info("job.done", job="x" * 100)
        with pytest.raises(OSError, match="No space left"):
            full.close()
    structlog.get_logger("x").info("job.done")


def test_after_a_fault_the_log_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a disk with room again, what is said from then on is written."""
    logs.configure("info")
    log = structlog.get_logger("x")
    with monkeypatch.context() as broken:
        broken.setattr(sys.stderr, "write", _no_space)
        log.info("lost")
    log.info("kept")
    assert [line["event"] for line in lines(capsys)] == ["kept"]


def _no_space(text: str) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("text", ["\x1b[31m", "\x9b2J", "\u202e", "\u200b", "\r", "\udc80", "\x7f"])
def test_on_a_terminal_text_of_others_steers_nothing(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a field, and in the message of an exception, whose traceback tells no local variables."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    logs.configure("info")
    log = structlog.get_logger("x")
    log.warning("job.failed", error=f"<{text}>")
    hush = len("in a local variable") * "s"
    try:
        raise ValueError(f"<{text}>")
    except ValueError:
        log.exception("stage.failed")
    printed = capsys.readouterr().err
    assert printed.count(f"<{plain(text)}>") == 2
    assert f"<{text}>" not in printed
    assert "Traceback" in printed
    assert hush not in printed
