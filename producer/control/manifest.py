"""Manifests: lists of what is to be sent, a row for each job, as CSV, JSON lines or Parquet.

Each is read from any place in it again, by a cursor that was given with a row.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, BinaryIO, cast

from producer.export.formats import Format
from storage.wire.parts import FIELDS

JOB_FIELDS = (
    *("key", "job", "bucket", "want", "deadline_ms", "callback", "traceparent"),
    *FIELDS,
)
_LONGEST_LINE = 2 * 1024**2  # and of all lines of one row together
_BLANKS = 1000  # where lines say nothing, each so many-th is a row that moves the cursor
_PARQUET_ROWS = 1000  # in memory at once
_BOM = b"\xef\xbb\xbf"


class ManifestError(Exception):
    """A manifest that cannot be read at all; the message says what to change."""


class _LongLine(Exception):
    """A line, or a row of many, that is not read into memory; next comes the line behind it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where to go on after it, what it is called, and its fields.

    Where it cannot be read, `fault` says why; where it is not wanted, there are no fields either.
    A `blank` one is none: it says where to go on after lines that say nothing.
    """

    cursor: str
    name: str
    fields: Mapping[str, Any] | None = None
    fault: str = ""
    blank: bool = False


def unused_columns(file: BinaryIO, written: Format) -> list[str]:
    """The columns that are no field of a job. Raises ManifestError."""
    if written is Format.JSONL:
        first = next((row.fields for row in read(file, written, "") if row.fields), None)
        names = list(first or {})
    elif written is Format.CSV:
        names = _CsvRows(file).columns
    else:
        names = _parquet(file).schema_arrow.names
    return [name for name in names if name not in JOB_FIELDS]


def read(file: BinaryIO, written: Format, cursor: str) -> Iterator[Row]:
    """The rows after the cursor; all of them where it is empty. Raises ManifestError, OSError."""
    match written:
        case Format.CSV:
            return _CsvRows(file).after(cursor)
        case Format.JSONL:
            return _json_rows(file, cursor)
        case Format.PARQUET:
            return _parquet_rows(file, cursor)


class _Lines:
    """The lines of a file as text, and where it is. What is no UTF-8 becomes surrogates.

    Raises _LongLine, and then goes on behind it. Whoever reads rows says where each begins.
    """

    def __init__(self, file: BinaryIO, offset: int = 0, line: int = 0) -> None:
        file.seek(offset)
        self._file = file
        self.offset, self.line = offset, line
        self._row_offset = offset

    def begin_row(self) -> None:
        """Say that the next line is the first of a row."""
        self._row_offset = self.offset

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        read_line = self._file.readline(_LONGEST_LINE + 1)
        if not read_line:
            raise StopIteration
        self.line += 1
        if len(read_line) > _LONGEST_LINE:
            self.offset += len(read_line)
            while read_line and not read_line.endswith(b"\n"):
                read_line = self._file.readline(_LONGEST_LINE)
                self.offset += len(read_line)
            raise _LongLine(f"is longer than {_LONGEST_LINE} bytes")
        text = read_line.removeprefix(_BOM) if not self.offset else read_line
        self.offset += len(read_line)
        if self.offset - self._row_offset > _LONGEST_LINE:  # an open quote goes on over lines
            raise _LongLine(f"is longer than {_LONGEST_LINE} bytes: a quote is open")
        return text.decode("utf-8", "surrogateescape")

    @property
    def cursor(self) -> str:
        return f"{self.offset}:{self.line}"


def _place(cursor: str) -> tuple[int, int]:
    offset, _, line = cursor.partition(":")
    return int(offset), int(line)


class _CsvRows:
    """A CSV file, its columns named in the first line, separated by comma, semicolon or tab."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        header = _Lines(file)
        try:
            line = next(header, "")
            for self._delimiter in ",;\t":
                self.columns = next(csv.reader([line], delimiter=self._delimiter), [])
                self.columns = [name.strip() for name in self.columns]
                if "key" in self.columns:
                    break
        except (_LongLine, csv.Error) as error:
            raise ManifestError(f"the first line must name the columns: {error}") from error
        if "key" not in self.columns:
            raise ManifestError("the first line must name the columns, one of them `key`")
        self._first = header.cursor

    def after(self, cursor: str) -> Iterator[Row]:
        """The rows after the cursor."""
        lines = _Lines(self._file, *_place(cursor or self._first))
        rows = csv.reader(lines, delimiter=self._delimiter)
        while True:
            lines.begin_row()
            name = f"line {lines.line + 1}"
            try:
                cells = next(rows)
            except StopIteration:
                return
            except _LongLine as error:
                yield Row(lines.cursor, name, fault=str(error))
                continue
            except csv.Error as error:
                yield Row(lines.cursor, name, fault=f"no CSV: {error}")
                continue
            if not cells:  # an empty line
                if lines.line % _BLANKS == 0:
                    yield Row(lines.cursor, name, blank=True)
                continue
            if len(cells) > len(self.columns):
                fault = f"has {len(cells)} cells, and there are {len(self.columns)} columns"
                yield Row(lines.cursor, name, fault=fault)
                continue
            named = zip(self.columns, cells, strict=False)
            yield Row(lines.cursor, name, dict(named))


def _json_rows(file: BinaryIO, cursor: str) -> Iterator[Row]:
    lines = _Lines(file, *_place(cursor or "0:0"))
    while True:
        lines.begin_row()
        try:
            line = next(lines)
        except StopIteration:
            return
        except _LongLine as error:
            yield Row(lines.cursor, f"line {lines.line}", fault=str(error))
            continue
        if not line.strip():
            if lines.line % _BLANKS == 0:
                yield Row(lines.cursor, f"line {lines.line}", blank=True)
            continue
        name = f"line {lines.line}"
        try:
            found = json.loads(line)
        except ValueError as error:
            yield Row(lines.cursor, name, fault=f"no JSON: {error}")
            continue
        except RecursionError:
            yield Row(lines.cursor, name, fault="no JSON that can be read: too deep")
            continue
        if isinstance(found, dict):
            yield Row(lines.cursor, name, found)
        else:
            yield Row(lines.cursor, name, fault="is no JSON object")


def _parquet_rows(file: BinaryIO, cursor: str) -> Iterator[Row]:
    table = _parquet(file)
    columns = [name for name in table.schema_arrow.names if name in JOB_FIELDS]
    before = int(cursor or "0")
    number = 0
    for group in range(table.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        if number + rows <= before:
            number += rows
            continue
        for batch in _batches(table, group, columns):
            for fields in _told(batch):
                number += 1
                if number > before:
                    row = Row(str(number), f"row {number}")
                    told = {"fault": fields} if isinstance(fields, str) else {"fields": fields}
                    yield replace(row, **told)


def _batches(table: Any, group: int, columns: list[str]) -> Iterator[Any]:
    """Some rows of a group at a time. Raises ManifestError."""
    arrow = cast(Any, import_module("pyarrow"))
    try:
        yield from table.iter_batches(_PARQUET_ROWS, row_groups=[group], columns=columns)
    except (arrow.ArrowException, OSError) as error:
        raise ManifestError(f"cannot be read: {error}") from error


def _told(batch: Any) -> Iterator[Mapping[str, Any] | str]:
    """The fields of each row, or why they cannot be told: they may be no text, or no time."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass  # of one of them
    for number in range(batch.num_rows):
        try:
            (fields,) = batch.slice(number, 1).to_pylist()
        except (ValueError, OverflowError) as error:
            fields = f"cannot be read: {error}"
        yield fields


def _parquet(file: BinaryIO) -> Any:
    """The file, opened. Raises ManifestError."""
    try:
        import pyarrow as pa  # noqa: PLC0415 (an extra, and 0.3 s)
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise ManifestError("Parquet needs the extra `parquet`: pip install pyarrow") from error
    file.seek(0)
    try:
        table = cast(Any, pq).ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise ManifestError(f"is no Parquet file: {error}") from error
    if "key" not in table.schema_arrow.names:
        raise ManifestError("must have a column `key`")
    return table
