"""How the code is laid out: files that are read in one go, and rooms in place of long folders."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("storage", "worker", "producer", "tests", "bench", "docs", "samples")
KINDS = {".py", ".lua", ".js", ".css", ".html"}
MOST_LINES = 300


def lines(file: Path) -> int:
    """How many it has."""
    return len(file.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_long(folder: str) -> None:
    """Whoever changes one reads all of it; what is longer has two concerns, and is split."""
    files = [file for file in (ROOT / folder).rglob("*") if file.suffix in KINDS]
    assert files
    assert {
        str(file.relative_to(ROOT)): lines(file) for file in files if lines(file) > MOST_LINES
    } == {}


@pytest.mark.parametrize(("house", "most"), [("worker", 10), ("storage", 5)])
def test_a_house_keeps_its_files_in_rooms(house: str, most: int) -> None:
    """Only what every room may need lies beside them."""
    beside = sorted(file.name for file in (ROOT / house).glob("*.py"))
    assert "__init__.py" in beside
    assert len(beside) <= most, beside
