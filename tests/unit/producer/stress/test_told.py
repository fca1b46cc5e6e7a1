"""A run as JSON, tables and a page."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from producer.stress.page import page
from producer.stress.plots import Axis
from producer.stress.report import Kept, Run, Sample, UnreadableRun, as_json, read_run
from producer.stress.show import Sheet, against, doubts_against, headline, sheets
from tests.support.stress_runs import ASKED, run, shots

SAMPLES = [Sample(at, 3, 4, 0, 0.5, 0.1, 1.5, 0.9, 0.8) for at in (1.0, 3.0, 5.0)]


@pytest.fixture(scope="module")
def found() -> Run:
    """One of a thousand results, with samples."""
    return run(samples=SAMPLES)


def cell(sheet: Sheet, row: str, column: int = 1) -> str:
    """What a table says of something."""
    return next(cells[column] for cells in sheet.rows if cells[0] == row)


def test_a_run_is_read_as_it_was_saved(found: Run, tmp_path: Path) -> None:
    """To the last digit; it is all that a page needs."""
    kept = Kept(found, objective="p99<2s", steps=((10.0, True, "p99 50 ms"),))
    path = tmp_path / "run.json"
    path.write_bytes(as_json(kept))
    assert read_run(path) == kept
    assert page(read_run(path)) == page(kept)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file: Invalid JSON"),
        ("[]", "the file"),
        ('{"run": {"jobs": 3}}', "run.asked"),
    ],
)
def test_a_file_that_holds_no_run(tmp_path: Path, text: str, said: str) -> None:
    """What is wrong with it is named."""
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(UnreadableRun, match=re.escape(said)):
        read_run(path)


def test_a_run_of_another_format_is_refused(found: Run, tmp_path: Path) -> None:
    """Figures that have changed their meaning are not compared."""
    path = tmp_path / "run.json"
    path.write_bytes(as_json(Kept(found, format=99)))
    with pytest.raises(UnreadableRun, match="format 99"):
        read_run(path)


def test_tables(found: Run) -> None:
    """Each figure in its place; means of what was sampled after the warm-up."""
    facts, latencies, stages = sheets(Kept(found))
    assert cell(facts, "jobs a second: offered") == "100"
    assert cell(facts, "tape fill") == "80%"
    assert cell(facts, "the device works, of the time") == "90%"
    assert cell(facts, "this machine's 2 cores are busy") == "50%"
    assert cell(latencies, "latency, as intended") == "1,000"
    assert cell(stages, "infer", 3) == "5"


def test_what_is_not_known_is_not_made_up() -> None:
    """No percentile of few results anywhere, no device where no worker tells of one."""
    few = run(shots()[200:250])
    facts, latencies, _ = sheets(Kept(few))
    assert cell(facts, "tape fill") == "—"
    assert latencies.rows[0][4:6] == ("—", "—")
    said = page(Kept(few))
    assert not re.search(r"p(?:75|90|95|99)</text>", said)
    assert "no p99 of 50 results" in said


def test_two_runs_side_by_side(found: Run) -> None:
    """What was measured, and how it has changed."""
    slower = run(shots(took=lambda n: 0.1), samples=SAMPLES)
    sheet = against(found, slower)
    assert cell(sheet, "latency, ms, p99", 3) == "× 1.99"
    assert cell(sheet, "verdict") == "valid"
    assert doubts_against(found, slower) == []


def test_runs_that_may_not_be_compared(found: Run) -> None:
    """They are shown, and what differs is said."""
    other = replace(found, asked=replace(ASKED, rate=50.0), invalid=("late",))
    doubts = doubts_against(other, found)
    assert doubts == [
        "the run before is invalid",
        "the runs differ in rate: they are no before and after",
    ]
    assert ("rate", "50", "100", "other") in against(other, found).rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "VALID: the schedule was kept"),
        ({"invalid": ("late",)}, "INVALID: do not trust these figures"),
        ({"invalid": ("late",), "failed": ("1 job: 2 ends",)}, "FAILED: the service"),
    ],
)
def test_the_verdict(found: Run, change: dict[str, tuple[str, ...]], said: str) -> None:
    """With all the reasons, and on the page too."""
    judged = replace(found, **change)  # type: ignore[arg-type]
    first, *reasons = headline(judged)
    assert first.startswith(said)
    assert sorted(reasons) == sorted(x for each in change.values() for x in each)
    assert first in page(Kept(judged))


def test_the_page_needs_nothing_else(found: Run) -> None:
    """No script, no address, nothing that is loaded; its drawings are well-formed."""
    kept = Kept(found, objective="p99<2s", steps=((10.0, True, "p99 50 ms"),))
    said = page(kept, found)
    assert not re.search(r"https?:|<script|<link|@import|url\(|\bsrc=", said)
    assert "default-src 'none'" in said
    assert "prefers-color-scheme: dark" in said
    drawings = re.findall(r"<svg.*?</svg>", said, re.S)
    assert len(drawings) == 6
    for drawing in drawings:
        assert ET.fromstring(drawing).get("aria-label")
        assert "nan" not in drawing and "inf" not in drawing.replace("infer", "")


def test_what_others_wrote_is_no_markup(found: Run) -> None:
    """A model or a worker may be called anything."""
    service = replace(found.service, model='<img src="x">&')
    said = page(Kept(replace(found, service=service, notes=("<b>",))))
    assert "<img" not in said and "<b>b" not in said
    assert "&lt;img src=&quot;x&quot;&gt;&amp;" in said


def test_a_page_of_nothing() -> None:
    """A run in which nothing was done is drawn too."""
    said = page(Kept(run([])))
    assert "no job of the measured time was done" in said


@pytest.mark.parametrize(
    ("most", "ticks"),
    [(0.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (7.3, [0, 2, 4, 6, 8]), (1470.0, [0, 500, 1000, 1500])],
)
def test_axes_have_round_ticks(most: float, ticks: list[float]) -> None:
    """From 0 to the next round value."""
    axis = Axis.over([most])
    assert axis.ticks == pytest.approx(ticks)
    assert axis.high == ticks[-1]
    assert axis.y(axis.high) == 10.0
