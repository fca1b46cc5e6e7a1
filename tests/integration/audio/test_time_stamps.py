"""Time stamps that skip in MP4, as of a conference whose participant was muted; and late starts."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import pytest

from worker.clip import Waveform
from worker.warning import AudioWarning

SOUND = ("-f", "lavfi", "-i", "sine=440:sample_rate=44100:duration=6")
PICTURES = ("-f", "lavfi", "-i", "testsrc=duration=8:rate=10:size=64x64")
IN_FRAGMENTS = ("-movflags", "frag_keyframe+empty_moov", "-frag_duration", "1000000")


def made(directory: Path, *options: str) -> bytes:
    """An MP4 file by ffmpeg."""
    path = directory / "audio.mp4"
    line = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *options, str(path)]
    subprocess.run(line, check=True, timeout=60)
    return path.read_bytes()


@pytest.mark.parametrize("options", [(), IN_FRAGMENTS], ids=["whole", "fragments"])
@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "alac"])
def test_a_hole_is_damage(
    codec: str, options: tuple[str, ...], decode: Callable[[bytes], Waveform], tmp_path: Path
) -> None:
    """What is on both sides of it is decoded as if it were not there."""
    whole = decode(made(tmp_path, *SOUND, "-c:a", codec, *options))
    assert whole.warnings == ()
    assert whole.duration_seconds == pytest.approx(6, abs=0.1)
    drop = r"noise=drop=between(pts*tb\,3\,5)"
    source = str(tmp_path / "source.mp4")
    (tmp_path / "audio.mp4").rename(source)
    holed = decode(made(tmp_path, "-i", source, "-c", "copy", "-bsf:a", drop, *options))
    assert holed.warnings == (AudioWarning.DAMAGED,)
    assert holed.duration_seconds == pytest.approx(4, abs=0.2)


def test_pauses_are_none(decode: Callable[[bytes], Waveform], tmp_path: Path) -> None:
    """Encoders of Opus leave out where nobody speaks."""
    source = str(tmp_path / "source.mp4")
    made(tmp_path, *SOUND, "-c:a", "libopus")
    (tmp_path / "audio.mp4").rename(source)
    drop = r"noise=drop=between(pts*tb\,3\,5)"
    paused = decode(made(tmp_path, "-i", source, "-c", "copy", "-bsf:a", drop))
    assert paused.warnings == ()


@pytest.mark.parametrize("late_seconds", [0.4, 2])
def test_sound_that_begins_after_the_pictures_is_whole(
    late_seconds: float, decode: Callable[[bytes], Waveform], tmp_path: Path
) -> None:
    """An edit list says so."""
    sound = ("-itsoffset", str(late_seconds), *SOUND, "-map", "0:v", "-map", "1:a")
    late = decode(made(tmp_path, *PICTURES, *sound, "-c:v", "mpeg4", "-c:a", "aac"))
    assert late.warnings == ()
    assert late.duration_seconds == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("start_seconds", [1.3, 3])
def test_a_copy_from_the_middle_is_whole(
    start_seconds: float, decode: Callable[[bytes], Waveform], tmp_path: Path
) -> None:
    """An edit list says what is to be left out of its first frames."""
    source = str(tmp_path / "source.mp4")
    made(tmp_path, *PICTURES, *SOUND, "-map", "0:v", "-map", "1:a", "-c:v", "mpeg4", "-c:a", "aac")
    (tmp_path / "audio.mp4").rename(source)
    cut = decode(made(tmp_path, "-ss", str(start_seconds), "-i", source, "-c", "copy"))
    assert cut.warnings == ()
