"""Exports as files, of rows that anyone may have had a hand in."""

import csv
import json
from pathlib import Path

import pytest

from producer import show
from producer.export.formats import Format
from producer.export.rows import COLUMNS, rows_of
from producer.export.writers import write
from storage.queue.history import Ended
from storage.wire.messages import OBJECTS, Want

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("https://evil.example")']
PLAIN = ["calls/=1.wav", "'=1", " =1", "a", "a\n=1"]


@pytest.mark.parametrize("name", ["job", "key", "batch", "label", "error", "model", "timeline_key"])
def test_a_spreadsheet_computes_nothing_that_others_wrote(name: str, tmp_path: Path) -> None:
    """Numbers stay numbers, and the formats for programs have each text as it is."""
    made = [dict.fromkeys(COLUMNS) | {name: text, "score": -0.5} for text in FORMULAS + PLAIN]
    write(made, tmp_path / "a.csv", Format.CSV)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row[name] for row in table] == [f"'{text}" for text in FORMULAS] + PLAIN
    assert {row["score"] for row in table} == {"-0.5"}
    write(made, tmp_path / "a.jsonl", Format.JSONL)
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)[name] for line in lines] == FORMULAS + PLAIN


@pytest.mark.parametrize("written", [Format.CSV, Format.JSONL])
def test_every_object_of_a_result_has_its_key_in_the_file(written: Format, tmp_path: Path) -> None:
    """Whatever a job may want, and whatever list was too long for a field; `status` has it too."""
    keys = {f"{name}_key": f"out/j.{name}" for name in (*Want, *OBJECTS) if name != Want.SCORES}
    event = {"job": "j", "status": "done", "run": "1"}
    write(rows_of([Ended("1-1", event, {**event, **keys})]), tmp_path / "out", written)
    with (tmp_path / "out").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file) if written is Format.CSV else map(json.loads, file)
    assert keys.items() <= row.items()
    assert keys.keys() <= set(show.ORDER)
