"""One row for each end of a job: the same columns, however the file is written."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from producer.results import Result, UnreadableResult
from storage.queue.history import Ended
from storage.wire.messages import LISTS, OBJECTS

NUMBERS = ("score", "duration_s")
COUNTS = ("run", "attempts")
TEXTS = ("job", "key", "batch", "status", "label", "warning", "error_code", "error")
MADE_BY = ("model", "model_revision", "device", "dtype")
OBJECT_KEYS = tuple(f"{name}_key" for name in OBJECTS)
COLUMNS = (
    *("job", "key", "batch", "status", "label", "score", "scores", "duration_s", "warning"),
    *("error_code", "error", "finished_at", "run", "attempts"),
    *MADE_BY,
    *LISTS,  # JSON, as they were told
    *OBJECT_KEYS,
)


def rows_of(ends: Iterable[Ended]) -> Iterator[dict[str, Any]]:
    """The rows; what is not there, or cannot be understood, is None."""
    for ended in ends:
        job = ended.event["job"]
        fields = {**ended.event, **ended.result}
        result = Result(job, fields)
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {name: fields.get(name) for name in (*TEXTS, *MADE_BY, *OBJECT_KEYS)}
        row |= {"job": job, **{name: _whole(fields.get(name)) for name in COUNTS}}
        for name in NUMBERS:
            row[name] = _readable(result, name)
        row["scores"] = _readable(result, "scores") or None
        row["finished_at"] = _time(fields.get("finished_at_ms"))
        for name in LISTS:
            row[name] = _json(fields.get(name))
        yield row


def _readable(result: Result, name: str) -> Any:
    try:
        return getattr(result, name)
    except UnreadableResult:
        return None


def _json(text: str | None) -> Any:
    try:
        return None if text is None else from_json(text, allow_inf_nan=False)
    except ValueError:
        return None


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch("[0-9]{1,9}", text) else None


def _time(text: str | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(int(text or "") / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
