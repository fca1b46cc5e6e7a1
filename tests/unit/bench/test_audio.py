"""Files to measure with, and the ffmpeg program that they are measured against."""

from pathlib import Path

import pytest

from worker.bench.audio import decode_by_program

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*_*.*")))
def test_the_ffmpeg_program_has_nothing_to_say(
    sample: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Given a file many times over: lines by the thousand were its time, and hid the report."""
    assert decode_by_program(sample, tmp_path / "listing", times=3) > 0
    assert capfd.readouterr() == ("", "")
