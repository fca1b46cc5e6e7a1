"""The measurements, as users start them: shortly, and with the tiny model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from bench.side import Side
from bench.workload import write_checkpoint, write_clips
from tests.support.worker_process import ROOT
from worker.bench.choices import Lengths, Part
from worker.bench.clips import draw
from worker.bench.report import (
    DecodeReport,
    EndToEndReport,
    EngineReport,
    FeedReport,
    Report,
    SpeechReport,
)
from worker.bench.show import sheets

REPORT = TypeAdapter(Report)


def bench(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m worker bench` with these EMO_ variables alone."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EMO_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", "bench", *arguments, "--seconds", "0"],
        cwd=place,  # away from a developer's .env
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.parametrize("part", Part)
def test_each_part_prints_a_report_that_can_be_kept(part: Part, tmp_path: Path) -> None:
    """One JSON object, and nothing else on stdout; all its figures are above zero."""
    ran = bench(
        tmp_path, part, "--model", "random:tiny", "--json", "--clips", "five", EMO_TAPE_SLOTS="1600"
    )
    assert ran.returncode == 0, ran.stderr
    report = REPORT.validate_python(json.loads(ran.stdout))
    assert report.part is part
    result = report.result
    match part:
        case Part.ENGINE:
            assert isinstance(result, EngineReport)
            assert result.tape_slots == 1600
            assert result.rtfx > 0
        case Part.DECODE:
            assert isinstance(result, DecodeReport)
            assert len(result.formats) == 16
            assert all(each.files_per_second > 0 for each in result.formats)
            assert all(0 < (each.cpu_against_program or 0) < 100 for each in result.formats)
            assert len(result.resampling) == 9
            assert any(each.with_resampling_ms > 0 for each in result.resampling)
            stereo = result.resampling[-1]
            assert stereo.file == "stereo_44100.mp3"
            assert 0 <= (stereo.with_resampling_against_program or 0) < 100
        case Part.SPEECH:
            assert isinstance(result, SpeechReport)
            assert result.audio_seconds >= 60
            assert result.turns >= 9  # one for each clip, and two in the slow one
            assert 0 < result.cpu_ms_per_audio_second < 1000
            assert result.rtfx_threads > 0
        case Part.FEED:
            assert isinstance(result, FeedReport)
            assert (result.what, result.model) == ("dir, wav", "stand-in")
            assert result.jobs_per_second > 0
            assert {"worker", "decode processes", "Redis"} == set(result.cpu_ms)
            assert {"intake", "fetch", "decode", "infer", "settle"} <= set(result.thread_ms)
            assert 0 <= result.lock_held <= 1
        case Part.END_TO_END:
            assert isinstance(result, EndToEndReport)
            assert (result.device, result.dtype) == ("cpu", report.dtype)
            assert result.at_once.jobs >= 8
            assert result.half_load.tapes_under_way > 0
            assert result.at_once.late is None
            assert result.half_load.late is not None
            assert result.against_engine is not None
            assert 0 < result.against_engine.least <= result.against_engine.most < 100
            assert result.half_load.clips_per_second < result.at_once.clips_per_second
    assert all(sheet.markdown().count("\n") > 1 for sheet in sheets(report))


def test_the_feed_is_measured_from_an_s3_server_too(tmp_path: Path) -> None:
    """With files in turn in every format, as the settings say: from several processes."""
    ran = bench(
        tmp_path,
        *("feed", "--store", "s3", "--format", "mixed", "--json"),
        EMO_DECODE_PROCESSES="2",
    )
    assert ran.returncode == 0, ran.stderr
    result = REPORT.validate_python(json.loads(ran.stdout)).result
    assert isinstance(result, FeedReport)
    assert (result.what, result.processes) == ("s3, mixed", 2)
    assert min(result.cpu_ms.values()) > 0


def test_a_window_that_cuts_the_clips_is_refused(tmp_path: Path) -> None:
    """A clip in pieces is another workload; the message names the setting."""
    ran = bench(tmp_path, "engine", "--model", "random:tiny", EMO_WINDOW_SECONDS="5")
    assert ran.returncode == 2
    assert "EMO_WINDOW_SECONDS=5" in ran.stderr


def test_a_side_of_the_comparison_runs_a_turn_when_it_is_told_to(tmp_path: Path) -> None:
    """All clips as one piece of work, and each alone; the scores are those of all clips."""
    model = write_checkpoint(tmp_path / "model", "tiny")
    clips = write_clips(tmp_path / "clips.npz", {each: draw(each, 2) for each in Lengths})
    side = Side(Path(sys.executable), "ours", "float32", directory=model, clips=clips, cores=1)
    try:
        turn = side.turn("short")
    finally:
        side.end()
    assert side.scores("five").shape == (2, 9)
    assert side.scores("five").sum(axis=1) == pytest.approx(1)
    assert len(turn.alone_seconds) == 2
    assert turn.wall_seconds > 0
    assert side.tape_fill == {"short": 1.0, "five": 1.0}
    assert side.gpu is None


def test_a_side_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Its last words are shown, for it is out of sight otherwise."""
    clips = write_clips(tmp_path / "clips.npz", {Lengths.FIVE: draw(Lengths.FIVE, 1)})
    with pytest.raises(SystemExit, match=r"(?s)ours ended with status 1.*config\.yaml"):
        Side(Path(sys.executable), "ours", "float32", directory=tmp_path, clips=clips, cores=1)
