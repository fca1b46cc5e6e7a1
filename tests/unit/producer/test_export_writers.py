"""Exports as files, of rows that anyone may have had a hand in."""

import csv
import json
from pathlib import Path

import pytest

from producer.export.formats import Format
from producer.export.rows import COLUMNS
from producer.export.writers import write

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
