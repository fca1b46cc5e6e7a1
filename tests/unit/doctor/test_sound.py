"""FFmpeg, and a sandbox that holds or does not."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.findings import found, one
from worker.audio import program
from worker.doctor import sound
from worker.doctor.findings import State
from worker.settings import WorkerSettings


def look(check: str, **settings: Any) -> tuple[State, str]:
    """What one check says."""
    return one(sound.sound(WorkerSettings(**settings)), check)


def test_decoding_as_it_should_be() -> None:
    """A process that is confined as decode processes are gets nowhere; all else is there."""
    said = found(sound.sound(WorkerSettings()))
    assert {check: lines[0][0] for check, lines in said.items()} == dict.fromkeys(
        ("libraries", "sandbox", "program", "speech"), State.OK
    )


def test_a_kernel_without_the_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hostile file could do then was done, and is named."""
    monkeypatch.setattr(sound, "ATTEMPTS", "tests.support.unfiltered_attempts")
    state, text = look("sandbox")
    assert state is State.FAIL
    for part in ("seccomp", "make a socket", "start a process", "open a file"):
        assert part in text


def test_too_little_memory_to_decode() -> None:
    """No decode process comes up."""
    state, text = look("sandbox", decode_memory_bytes=40_000_000)
    assert (state, "EMO_DECODE_MEMORY_BYTES" in text) == (State.FAIL, True)


def test_libraries_that_do_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is shown, and the sandbox not tried; the program is."""
    (tmp_path / "av.py").write_text("raise ImportError('libavcodec.so.62: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = found(sound.sound(WorkerSettings()))
    ((state, text),) = said["libraries"]
    assert (state, "libavcodec.so.62" in text) == (State.FAIL, True)
    assert said["sandbox"][0][0] is State.SKIPPED
    assert said["program"][0][0] is State.OK


def test_libraries_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named with what was tested."""
    (tmp_path / "av.py").write_text(
        "__version__, library_versions = '16.1.0', {'libavcodec': (61, 1, 1)}"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert look("libraries")[0] is State.WARN


def test_no_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pip's nor the system's; and one that is too old is none."""
    old = tmp_path / "ffmpeg"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setattr(program, "_candidates", lambda: iter([str(old)]))
    program.find_ffmpeg.cache_clear()
    try:
        state, text = look("program")
    finally:
        program.find_ffmpeg.cache_clear()
    assert (state, "apt-get install ffmpeg" in text) == (State.FAIL, True)


def test_no_search_for_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a fault: it is an extra."""
    monkeypatch.setattr(sound, "find_spec", lambda name: None)
    assert look("speech")[0] is State.SKIPPED
