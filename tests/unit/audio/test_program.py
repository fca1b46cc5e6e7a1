"""Which ffmpeg decodes suspects: that of pip, as new as our libraries, where it will do."""

from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest

from storage.errors import Internal
from worker.audio.program import find_ffmpeg


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """It is looked for once in a process: here for each test, and nothing found stays."""
    find_ffmpeg.cache_clear()
    yield
    find_ffmpeg.cache_clear()


def program(directory: Path, *, status: int) -> str:
    """An ffmpeg that ends with a status, whatever it is asked."""
    directory.mkdir()
    path = directory / "ffmpeg"
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_the_bundled_program_comes_before_one_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the system's would do: a distribution's may be years older, and give other samples."""
    of_system = program(tmp_path / "bin", status=0)
    monkeypatch.setenv("PATH", str(Path(of_system).parent))
    bundled = imageio_ffmpeg.get_ffmpeg_exe()
    assert Path(bundled).parent == Path(imageio_ffmpeg.__file__).parent / "binaries"
    assert find_ffmpeg() == bundled


@pytest.mark.parametrize("has_bundled", [True, False])
def test_without_a_bundled_program_that_will_do_the_systems_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_bundled: bool
) -> None:
    """Where pip's wheel holds none for this machine, or one that lacks our filter."""
    of_system = program(tmp_path / "bin", status=0)
    old = program(tmp_path / "old", status=1)

    def of_pip() -> str:
        if not has_bundled:
            raise RuntimeError("no ffmpeg exe could be found")
        return old

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", of_pip)
    monkeypatch.setenv("PATH", str(Path(of_system).parent))
    assert find_ffmpeg() == of_system


def test_no_program_is_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of them will do."""
    old = program(tmp_path / "old", status=1)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: old)
    monkeypatch.setenv("PATH", str(Path(old).parent))
    with pytest.raises(Internal, match="install ffmpeg"):
        find_ffmpeg()
