"""The sample clips are what their table says."""

import re
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from samples.make import CLIPS

SAMPLES = Path(__file__).parents[2] / "samples"
SMALL_BYTES = 400_000


@dataclass(frozen=True)
class Row:
    """One row of the table in samples/README.md."""

    file: str
    said: str
    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    seconds: float


def _rows() -> list[Row]:
    """Read the table: file, what is said, container, codec, Hz, channels, seconds, voice."""
    rows = []
    for line in (SAMPLES / "README.md").read_text("utf-8").splitlines():
        if not line.startswith("| `"):
            continue
        file, said, container, codec, rate, channels, seconds, _voice = (
            cell.strip() for cell in line.strip("|").split("|")
        )
        rows.append(
            Row(
                file=file.strip("`"),
                said=said,
                container=container,
                codec=codec,
                sample_rate_hz=int(rate),
                channels=int(channels),
                seconds=float(seconds),
            )
        )
    return rows


ROWS = _rows()


def test_table_lists_every_clip() -> None:
    """The table has a row for each file in samples/, and no row without a file."""
    clips = {
        path.name
        for path in SAMPLES.iterdir()
        if path.is_file() and path.suffix not in {".md", ".py"}
    }
    assert clips
    assert {row.file for row in ROWS} == clips


def test_table_says_what_the_script_speaks() -> None:
    """The sentences in the table are those that samples/make.py gives to the synthesiser."""
    spoken = {clip.file: " — ".join(text for _voice, text in clip.lines) for clip in CLIPS}
    assert {row.file: row.said for row in ROWS} == spoken


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.file)
def test_clip_is_as_stated(row: Row) -> None:
    """A clip decodes to the stated length, codec, rate and channels, and it is not silent."""
    with av.open(str(SAMPLES / row.file)) as container:
        (stream,) = container.streams.audio
        samples, peak = 0, 0.0
        for frame in container.decode(stream):
            samples += frame.samples
            peak = max(peak, float(abs(frame.to_ndarray().astype("float64")).max()))
        family = re.match(r"\w+", row.container)
        assert family is not None
        assert family.group() in container.format.name.split(",")
        assert stream.codec.canonical_name == row.codec
        assert stream.rate == row.sample_rate_hz
        assert stream.channels == row.channels
        assert samples / stream.rate == pytest.approx(row.seconds, abs=0.01)
        assert peak > 0.1


def test_mp3_has_a_tag_and_a_cover() -> None:
    """The mp3 begins with an ID3v2.3 tag, which holds a title and a picture that can be drawn."""
    path = SAMPLES / "excited_en.mp3"
    assert path.read_bytes()[:4] == b"ID3\x03"
    with av.open(str(path)) as container:
        assert container.metadata["title"] == "excited_en"
        (cover,) = container.streams.video
        assert cover.disposition & Disposition.attached_pic
        picture = next(container.decode(cover))
        assert (picture.width, picture.height) == (96, 96)


def test_m4a_has_its_index_at_the_end() -> None:
    """The m4a cannot be decoded from a pipe: its `moov` box follows the audio data."""
    data = (SAMPLES / "angry_de.m4a").read_bytes()
    assert 0 < data.index(b"mdat") < data.index(b"moov")


def test_dialogue_has_a_speaker_on_each_channel() -> None:
    """In the stereo clip, left speaks first and right afterwards, so that a downmix matters."""
    with av.open(str(SAMPLES / "dialogue_it.ogg")) as container:
        first = next(f for f in container.decode(audio=0) if f.time and f.time > 1.0)
        last = next(f for f in container.decode(audio=0) if f.time and f.time > 4.0)
    left_first, right_first = np.abs(first.to_ndarray()).max(axis=1)  # (channels, samples)
    left_last, right_last = np.abs(last.to_ndarray()).max(axis=1)
    assert left_first > 10 * right_first
    assert right_last > 10 * left_last


def test_samples_are_small() -> None:
    """All the clips together stay under 400 KB, for they live in the repository."""
    assert sum((SAMPLES / row.file).stat().st_size for row in ROWS) < SMALL_BYTES
