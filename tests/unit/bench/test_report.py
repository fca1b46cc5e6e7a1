"""What is kept of a comparison, and the pages and charts made of it."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from bench.chart import chart
from bench.compare import summary
from bench.report import markdown, sheet
from bench.result import Comparison, Workload, read_results, write_result
from bench.side import Side, Turn
from docs.generate import between
from worker.bench.choices import Lengths
from worker.bench.machine import Machine
from worker.bench.show import Sheet, number

SVG = "{http://www.w3.org/2000/svg}"


class Sat(Side):
    """A side that has run elsewhere: nothing but what it said."""

    def __init__(self, name: str, scores: float, **fill: float) -> None:
        self.name, self.dtype = name, "float32"
        self.tape_fill = fill
        self._found = np.full((2, 9), scores)

    def scores(self, workload: str) -> NDArray[np.float64]:
        """Two clips."""
        return self._found


def turns(*wall_seconds: float) -> list[Turn]:
    """Rounds that took so long, on two cores, with two clips of half of it each."""
    return [Turn(wall, 2 * wall, [wall / 2] * 2) for wall in wall_seconds]


@pytest.fixture
def comparison() -> Comparison:
    """Ours was twice as fast, but for a round in which it was four times."""
    ours, theirs = Sat("ours", 0.1, five=0.9), Sat("reference", 0.1001)
    of = {ours: turns(1.0, 1.0, 2.0), theirs: turns(2.0, 4.0, 4.0)}
    sides = tuple(
        summary(side, theirs, Lengths.FIVE, audio_seconds=10.0, ours=of[side], theirs=of[theirs])
        for side in (ours, theirs)
    )
    workload = Workload("five", "5 s each", 2, 10.0, sides)
    machine = Machine("cpu-2-cores", "A & B", "A & B", 2, ("avx2",), "3.11", "2.13", "2026-01-02")
    return Comparison(machine, "random:tiny", 3, ("it was busy",), (workload,))


def test_a_sheet_shows_what_is_written_in_it() -> None:
    """Names of models and machines are no markup, and steer nothing."""
    console = Console(width=80)
    with console.capture() as capture:
        console.print(Sheet("Title", ("what",), (("[/x]\x1b[2J",),)).rich())
    assert "[/x]\\x1b[2J" in capture.get()


def test_a_ratio_is_that_of_the_same_round(comparison: Comparison) -> None:
    """The median of the rounds' ratios, not the ratio of the medians; with its spread."""
    ours, reference = comparison.workloads[0].sides
    assert ours.ratio == (2.0, 2.0, 4.0)
    assert ours.rtfx == 10.0
    assert ours.clips_per_second == 2.0
    assert ours.cpu_seconds_per_audio_second == pytest.approx(0.2)
    assert ours.latency is not None
    assert (ours.latency.p50_ms, ours.latency.runs) == (500.0, 6)
    assert ours.tape_fill == 0.9
    assert ours.largest_score_difference == pytest.approx(1e-4)
    assert (reference.ratio, reference.largest_score_difference) == (None, None)


def test_a_result_is_read_as_it_was_written(comparison: Comparison, tmp_path: Path) -> None:
    """Under the name of its machine, and to the last digit."""
    path = write_result(comparison, tmp_path)
    assert path.name == "cpu-2-cores.json"
    assert read_results(tmp_path) == {path: comparison}


def test_kept_results_can_be_read() -> None:
    """Each lies under its machine's name."""
    results = read_results()
    assert results
    assert [path.stem for path in results] == [each.machine.slug for each in results.values()]


def test_the_page_names_sides_and_doubts(comparison: Comparison, tmp_path: Path) -> None:
    """A figure without its machine, or with its doubts left out, would be worth nothing."""
    page = markdown({tmp_path / "results" / "cpu.json": comparison}, tmp_path / "docs")
    assert "### A & B, 2 cores" in page
    assert "Not to be trusted: it was busy." in page
    assert "| 2 × five | ours, float32 | 10 | 2.00 (2.00 to 4.00) |" in page
    assert "(../results/cpu.svg)" in page
    assert len({line.count("|") for line in page.splitlines() if line.startswith("|")}) == 1
    assert len(sheet(comparison).rows) == 2


def test_bars_are_as_long_as_the_sides_are_fast(comparison: Comparison) -> None:
    """The chart is well-formed whatever a device is called, and true to scale."""
    root = ET.fromstring(chart(comparison))
    widths = [float(bar.get("width", "")) for bar in root.findall(f"{SVG}rect")[1:]]
    ours, reference = (side.rtfx for side in comparison.workloads[0].sides)
    assert widths[1] / widths[0] == pytest.approx(reference / ours, abs=0.01)
    assert any("2.00 × reference" in (text.text or "") for text in root.findall(f"{SVG}text"))


def test_only_what_is_between_the_markers_is_made() -> None:
    """Text around them stays; a page that lost one is refused, not overwritten."""
    begin = "<!-- Made by `make docs` from bench/results/: begin -->"
    end = "<!-- Made by `make docs` from bench/results/: end -->"
    assert (
        between(f"a\n{begin}\nold\n{end}\nb\n", "new", source="bench/results/")
        == f"a\n{begin}\n\nnew\n\n{end}\nb\n"
    )
    with pytest.raises(ValueError, match="must hold"):
        between(f"a\n{begin}\nold\n", "new", source="bench/results/")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (3.14159, "3.14"), (99.94, "99.9"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits_that_say_something(value: float, text: str) -> None:
    """More would be noise."""
    assert number(value) == text
