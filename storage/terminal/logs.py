"""Log events, not prose: names with fields, one JSON object a line, or readable on a terminal."""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from storage.terminal.text import plain


class _Forgiving:
    """A stream whose faults stop nobody: work goes on under a full disk or a reader that is gone.

    Thread-safe as far as the stream is.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: it is closed
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


def configure(level: str) -> None:
    """Send everything to stderr, from `level` up; what cannot be written is lost, and no error."""
    renderers: list[structlog.typing.Processor] = (
        [_harmless, structlog.dev.ConsoleRenderer(exception_formatter=_traceback)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Forgiving(sys.stderr))),
        cache_logger_on_first_use=False,
    )


def _harmless(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Fields hold what others wrote; JSON has escapes of its own."""
    return {
        name: plain(value) if isinstance(value, str) else value for name, value in event.items()
    }


def _traceback(stream: TextIO, error: Any) -> None:
    """A traceback without local variables, of which some are secrets."""
    lines = "".join(traceback.format_exception(*error)).rstrip("\n").split("\n")
    stream.write("".join(f"\n{plain(line)}" for line in lines))
