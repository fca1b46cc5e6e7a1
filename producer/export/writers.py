"""Rows into a file, a part at a time: memory is that of a part, however many they are."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, cast

from producer.export.formats import Format
from producer.export.rows import COLUMNS, COUNTS, NUMBERS

Rows = Iterable[dict[str, Any]]
_GROUP_ROWS = 5000
_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


class CannotWrite(Exception):
    """What is needed to write that format is not installed."""


def write(rows: Rows, path: Path, written: Format) -> int:
    """Write the rows; how many they were. Raises OSError, CannotWrite."""
    writers: dict[Format, Callable[[Rows, Path], int]] = {
        Format.CSV: _csv,
        Format.JSONL: _jsonl,
        Format.PARQUET: _parquet,
    }
    return writers[written](rows, path)


def _csv(rows: Rows, path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in rows:
            table.writerow(_cell(row[name]) for name in COLUMNS)
            count += 1
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULAS):
        return f"'{value}"  # spreadsheets would compute it, and whoever sent a job chose it
    return _json(value) if isinstance(value, dict | list) else _plain(value)


def _jsonl(rows: Rows, path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            told = {name: _plain(value) for name, value in row.items() if value is not None}
            file.write(_json(told) + "\n")
            count += 1
    return count


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else value


def _parquet(rows: Rows, path: Path) -> int:
    try:
        import pyarrow as pa  # noqa: PLC0415 (an extra, and 0.3 s)
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise CannotWrite("Parquet needs the extra `parquet`: pip install pyarrow") from error
    arrow = cast(Any, pa)
    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, arrow.string())
    kinds |= dict.fromkeys(NUMBERS, arrow.float64()) | dict.fromkeys(COUNTS, arrow.int64())
    kinds["scores"] = arrow.map_(arrow.string(), arrow.float64())
    kinds["finished_at"] = arrow.timestamp("ms", tz="UTC")
    schema = arrow.schema(list(kinds.items()))
    count = 0
    left = iter(rows)
    with cast(Any, pq).ParquetWriter(path, schema, compression="zstd") as file:
        while part := list(islice(left, _GROUP_ROWS)):
            columns = {name: list(_arrow(name, part)) for name in COLUMNS}
            file.write_table(arrow.table(columns, schema=schema))
            count += len(part)
    return count


def _arrow(name: str, rows: list[dict[str, Any]]) -> Iterator[Any]:
    for row in rows:
        value = row[name]
        if name == "scores":
            yield None if value is None else list(value.items())
        else:
            yield _json(value) if isinstance(value, dict | list) else value
