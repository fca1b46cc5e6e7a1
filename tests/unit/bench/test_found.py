"""What a section finds is on disk after every step."""

from pathlib import Path

from bench.gpu.found import Found


def fail() -> None:
    """As a step does on a device that is lost."""
    raise RuntimeError("an illegal memory access was encountered")


def test_a_step_that_fails_is_kept_with_its_trace(tmp_path: Path) -> None:
    """The next one still runs; the section has not come to its end well."""
    path = tmp_path / "section.json"
    found = Found(path)
    assert found.step("first", lambda: {"us": 3.0}) == {"us": 3.0}
    assert found.step("second", fail) is None
    found.step("third", lambda: 4)
    found.keep(ended=True)
    kept = Found.read(path)
    assert kept.failures == ["second"]
    assert not kept.well


def test_a_section_is_well_when_it_has_ended(tmp_path: Path) -> None:
    """A process that was killed leaves what it had found, and is not."""
    path = tmp_path / "section.json"
    found = Found(path)
    assert not Found.read(path).well
    found.step("first", lambda: 1)
    assert not Found.read(path).well
    found.keep(ended=True)
    assert Found.read(path).well
