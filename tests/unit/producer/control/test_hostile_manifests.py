"""Manifests that nobody means: a row that is wrong is refused, and nothing else ends over it."""

import io
import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from producer.control.manifest import JOB_FIELDS, ManifestError, Row, read
from producer.control.rows import job_of
from producer.export.formats import Format
from storage.errors import InvalidJob
from storage.queue.bulks import Bulk, BulkStatus
from storage.wire.messages import Lane

BULK = Bulk("b", BulkStatus.RUNNING, Lane.BULK, {}, {"want": "scores"}, 0, -1, "", 0, 0, 0)
DEEP: list[Any] = json.loads("[" * 900 + "]" * 900)
ODD = [
    *(5, -1, 1.5, float("inf"), float("nan"), True, 10**4000, {}, {"a": 1}, [[]], [{}], [None]),
    *([1, "a"], DEEP, "\udcff", "\0", "x" * 100_000, b"a.wav", [b"\xff"], (1, 2), [("a", 1)]),
    *(datetime(2026, 1, 1, tzinfo=UTC), [datetime(2026, 1, 1, tzinfo=UTC)], [float("nan")]),
]


@pytest.mark.parametrize("name", JOB_FIELDS)
def test_whatever_a_cell_holds_is_a_job_or_refused(name: str) -> None:
    """And why, in a sentence that can be written down."""
    for value in ODD:
        fields = {"key": "a.wav", name: value}
        try:
            job_of(Row("1", "row 1", fields), BULK, max_job_bytes=32_768)
        except InvalidJob as error:
            assert 0 < len(str(error).encode()) < 1000
        else:
            assert not isinstance(value, dict | bool | bytes)


def rows(data: bytes, written: Format) -> list[Row]:
    """All of them, and again from each cursor on."""
    found = list(read(io.BytesIO(data), written, ""))
    for number, row in enumerate(found):
        assert list(read(io.BytesIO(data), written, row.cursor)) == found[number + 1 :]
    return found


def keys(found: Iterable[Row]) -> list[str]:
    """Those of rows that can be read."""
    return [str(row.fields["key"]) for row in found if row.fields]


@pytest.mark.parametrize(
    ("written", "head", "line"),
    [(Format.JSONL, "", '{{"key": "{}"}}\n'), (Format.CSV, "key\n", "{}\n")],
)
def test_a_line_that_is_too_long_is_refused_alone(written: Format, head: str, line: str) -> None:
    """It is not read into memory, and those around it are sent."""
    data = head + line.format("a") + line.format("x" * 5_000_000) + line.format("b")
    found = rows(data.encode(), written)
    assert keys(found) == ["a", "b"]
    (fault,) = (row.fault for row in found if row.fault)
    assert fault == "is longer than 2097152 bytes"


@pytest.mark.parametrize("line_bytes", [30, 10_000, 2_000_000])
@pytest.mark.parametrize("delimiter", [b",", b";", b"\t"])
def test_a_row_of_many_lines_that_is_too_long_is_refused(delimiter: bytes, line_bytes: int) -> None:
    """None is collected to the end of the file: each line may close a quote, and open the next."""
    line = b'"' + delimiter * (line_bytes - 3) + b'"\n'
    head = delimiter.join((b"key", b"a")) + b"\n"
    first = delimiter.join((b"x", b'"')) + b"\n"
    data = head + first + line * (6_000_000 // line_bytes)
    found = list(read(io.BytesIO(data), Format.CSV, ""))
    assert any(row.fault.startswith("is longer than 2097152 bytes") for row in found)
    ends = [0, *(int(row.cursor.partition(":")[0]) for row in found)]
    longest = max(after - before for before, after in pairwise(ends))
    assert longest <= 2_097_152 + line_bytes


CSV, JSONL = (b"key,channel\n", b"a,1\n"), (b"", b'{"key": "a"}\n')


@pytest.mark.parametrize(
    ("written", "lines", "blank"),
    [
        *((Format.CSV, CSV, blank) for blank in (b"\n", b"\r\n")),
        *((Format.JSONL, JSONL, blank) for blank in (b"\n", b"\r\n", b"  \n", b"\xc2\xa0\n")),
    ],
)
def test_lines_that_say_nothing_move_the_cursor(
    written: Format, lines: tuple[bytes, bytes], blank: bytes
) -> None:
    """However many there are: a page of them ends, and the next goes on behind it."""
    head, line = lines
    found = rows(head + line + blank * 4500 + line + blank * 2500, written)
    ends = [1, *(int(row.cursor.partition(":")[2]) for row in found)]
    assert max(after - before for before, after in pairwise(ends)) <= 1000
    assert keys(found) == ["a", "a"]
    assert all(row.blank == (row.fields is None) and not row.fault for row in found)


def test_however_deep_a_row_is_it_is_a_job_or_refused() -> None:
    """What can just be read takes more of the stack to be written."""
    for depth in range(1, sys.getrecursionlimit() + 100):
        line = b'{"key": "a", "segments": ' + b"[" * depth + b"]" * depth + b"}"
        (row,) = read(io.BytesIO(line), Format.JSONL, "")
        if not row.fault:
            with suppress(InvalidJob):
                job_of(row, BULK, max_job_bytes=32_768)


@pytest.mark.parametrize(
    "head", [b"key\ra.wav\rb.wav\r", b"key," + b"x" * 200_000 + b"\n", b"key" * 2_000_000, b""]
)
def test_a_head_that_cannot_be_read_is_said(head: bytes) -> None:
    """Files of old Macs have no line ends that we know."""
    with pytest.raises(ManifestError):
        rows(head, Format.CSV)


def parquet(columns: dict[str, Any]) -> bytes:
    """A file, uncompressed, so that what is written over it stays where it is."""
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="none", use_dictionary=False)
    return file.getvalue()


def test_a_parquet_cell_that_python_has_not_is_refused_alone() -> None:
    """Text that is no UTF-8, and a time after the year 9999."""
    text = parquet({"key": ["aaaa", "bbbb", "cccc"]}).replace(b"bbbb", b"\xffbbb")
    late = pa.array([1, 2**60, 3], pa.timestamp("us"))
    for data in (text, parquet({"key": ["aaaa", "bbbb", "cccc"], "deadline_ms": late})):
        found = rows(data, Format.PARQUET)
        assert keys(found) == ["aaaa", "cccc"]
        assert [row.name for row in found if row.fault] == ["row 2"]


def test_parquet_that_ends_within_is_said() -> None:
    """What lies before its foot is not there."""
    data = parquet({"key": [f"{number}.wav" for number in range(5000)]})
    spoiled = data[:4] + b"\xff" * 4000 + data[4004:]
    with pytest.raises(ManifestError, match="cannot be read"):
        rows(spoiled, Format.PARQUET)
