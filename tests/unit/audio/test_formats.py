"""Which formats are opened: none by luck, none that is encrypted, and all that the page says."""

import gzip
import io
import json
import marshal
import pickle
import re
import sqlite3
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from itertools import chain, product
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream
from numpy.typing import ArrayLike

from storage.errors import JobError, NoAudioStream, NotAudio
from storage.objects.blob import Blob
from storage.objects.local_files import AUDIO_SUFFIXES
from tests.support.audio_files import encode, tone
from tests.support.audio_matrix import Row, rows
from tests.support.handmade_audio import mp1, program_stream
from worker.audio.formats import DECODERS, FORMATS
from worker.audio.libav import Decoder

PAGE = Path(__file__).parents[3] / "docs" / "formats.md"
TEXT = "Ärzte & Vögel: è à ü, 50 % of 7 words.\n" * 400
# Those of formats that are told by marks in their midst have no bytes to begin with.
SIGNATURES = {
    "voc": b"Creative Voice File\x1a\x1a\x00\x14\x01\x1f\x11",
    "nistsphere": b"NIST_1A\n   1024\n",
    "wv": b"wvpk",
    "tta": b"TTA1\x01\x00\x01\x00\x10\x00",
    "ape": b"MAC \x96\x0f\x00\x00",
    "dsf": b"DSD \x1c\x00\x00\x00\x00\x00\x00\x00",
    "mpc": b"MP+\x07",
    "mpc8": b"MPCKSH",
    "flv": b"FLV\x01\x05\x00\x00\x00\x09",
    "mpeg": b"\x00\x00\x01\xba\x21\x00\x01\x00\x01\x80\x1f\x41",
    "loas": b"\x56\xe0\x20",
    "eac3": b"\x0b\x77\x00\xff\x34\x86",
}
# One file of each codec in them.
MARKED = {(row.demuxer, row.decoder): row for row in rows() if row.demuxer in SIGNATURES}


def decode(data: bytes) -> int:
    """How many samples there are."""
    with Blob.from_bytes(data) as blob:
        chunks = Decoder(blob.fd, blob.size, sample_rate_hz=16_000).chunks()
        return sum(len(chunk) // 4 for chunk in chunks)


def picture(muxer: str, codec: str, pixels: str, frames: int = 1) -> bytes:
    """Noise, by an encoder of pictures or of video."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "picture"
        options = {"update": "1"} if muxer == "image2" else {}
        with av.open(str(path), "w", format=muxer, options=options) as output:
            stream = output.add_stream(codec, rate=25)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 160, 120, pixels
            for _ in range(frames):
                colours = rng.integers(0, 256, (120, 160, 3), np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(colours, format="rgb24")))
            output.mux(stream.encode(None))
        return path.read_bytes()


def pdf() -> bytes:
    """One page, with a compressed stream."""
    packed = gzip.compress(TEXT.encode(), mtime=0)
    return (
        b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"
        + b"3 0 obj\n<</Length %d/Filter/FlateDecode>>\nstream\n" % len(packed)
        + packed
        + b"\nendstream\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF\n"
    )


def archive(kind: str) -> bytes:
    """A ZIP or tar file of text and noise."""
    buffer = io.BytesIO()
    files = {"text.txt": TEXT.encode(), "noise.bin": np.random.default_rng(1).bytes(20_000)}
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in files.items():
                packed.writestr(name, data)
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tape:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tape.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def database() -> bytes:
    """A SQLite file."""
    with sqlite3.connect(":memory:") as connection:
        connection.execute("create table words (number integer, word text)")
        pairs = enumerate(TEXT.split())
        connection.executemany("insert into words values (?, ?)", pairs)
        connection.commit()
        return connection.serialize()


def array(values: ArrayLike, kind: str) -> bytes:
    """A .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values).astype(kind))
    return buffer.getvalue()


OTHER_FILES: dict[str, Callable[[], bytes]] = {
    "text": TEXT.encode,
    "text in latin-1": lambda: TEXT.encode("latin-1"),
    "text in utf-16": lambda: TEXT.encode("utf-16"),
    "web page": f"<!DOCTYPE html><html><body><p>{TEXT}</p></body></html>".encode,
    "svg": f"<svg xmlns='http://www.w3.org/2000/svg'><text>{TEXT}</text></svg>".encode,
    "json": lambda: json.dumps({"lines": TEXT.split("\n")}).encode(),
    "csv": lambda: "\n".join(f"{n},{n * n},word {n}" for n in range(3_000)).encode(),
    "pdf": pdf,
    "png": lambda: picture("image2", "png", "rgb24"),
    "jpeg": lambda: picture("image2", "mjpeg", "yuvj420p"),
    "bmp": lambda: picture("image2", "bmp", "bgr24"),
    "tiff": lambda: picture("image2", "tiff", "rgb24"),
    "gif": lambda: picture("gif", "gif", "rgb8", 3),
    "mpeg-1 video alone": lambda: picture("mpeg1video", "mpeg1video", "yuv420p", 30),
    "mpeg-4 video alone": lambda: picture("m4v", "mpeg4", "yuv420p", 30),
    "zip": lambda: archive("zip"),
    "tar": lambda: archive("tar"),
    "gzip": lambda: gzip.compress(np.random.default_rng(2).bytes(30_000), mtime=0),
    "sqlite": database,
    "program": lambda: Path(sys.executable).read_bytes()[:300_000],
    "pickle": lambda: pickle.dumps(TEXT.split()),
    "bytecode": lambda: marshal.dumps(compile(Path(__file__).read_text("utf-8"), "x", "exec")),
    # All start codes of MPEG are among these numbers.
    "big-endian numbers": lambda: array(np.arange(100_000), ">u4"),
    "little-endian numbers": lambda: array(np.arange(100_000), "<u4"),
    "doubles": lambda: array(np.random.default_rng(3).normal(size=20_000), "<f8"),
    "zeros": lambda: bytes(300_000),
    "ones": lambda: b"\xff" * 300_000,
    "random bytes": lambda: np.random.default_rng(4).bytes(1_000_000),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_other_files_are_taken_for_no_format(name: str) -> None:
    """What is no audio is not opened at all: it does not take a decoder to see that."""
    with pytest.raises(NotAudio, match="not audio in a format we know"):
        decode(OTHER_FILES[name]())


def test_text_with_sync_words_at_the_right_distance_is_refused() -> None:
    """LOAS is told by sync words alone: where letters happen to be some, no decoder takes them."""
    text = "Và a casa, che è già sera, Maria.\n\n".encode("latin-1") * 400
    with pytest.raises(NotAudio, match="no sample of its aac_latm audio"):
        decode(text)


@pytest.mark.parametrize(
    ("demuxer", "rest"),
    # Behind Musepack's first bytes, zeros are frames of silence.
    sorted({*product(SIGNATURES, ["text", "zeros", "random bytes"])} - {("mpc", "zeros")}),
)
def test_a_signature_alone_is_no_audio(demuxer: str, rest: str) -> None:
    """Other bytes behind the first bytes of a format are refused, for good."""
    others = {"text": TEXT.encode(), "zeros": bytes(100_000)}
    with pytest.raises((NotAudio, NoAudioStream)) as caught:
        decode(SIGNATURES[demuxer] + others.get(rest, np.random.default_rng(5).bytes(100_000)))
    assert not caught.value.retryable


@pytest.mark.parametrize("row", MARKED.values(), ids=lambda row: f"{row.demuxer} {row.decoder}")
def test_half_of_a_file_over_noise_is_decoded_or_refused(row: Row) -> None:
    """Where a file turns into noise, what came before it is decoded, or all of it is refused."""
    data = row.make()
    noise = np.random.default_rng(6).bytes(len(data) // 2)
    try:
        assert decode(data[: len(data) // 2] + noise) > 0
    except JobError as error:
        assert not error.retryable


def chance(frame: bytes) -> bytes:
    """Other bytes, with one frame of MPEG audio where two would begin."""
    noise = bytes(byte & 0x7F for byte in np.random.default_rng(7).bytes(900))
    return frame + frame[:4] + noise


def test_one_frame_of_mpeg_audio_is_chance() -> None:
    """Time zones, terminal descriptions and programs hold a frame of layer I, II or III."""
    assert decode(mp1(5)) > 0
    with pytest.raises(NotAudio, match="hardly any of its mp1"):
        decode(chance(mp1(1)))


def test_a_few_packets_among_many_that_fail_are_chance() -> None:
    """A program of 800 kB is 0.04 s of sound: it is refused, as is what is damaged all over."""
    data = encode(tone(8.0, 16_000), 16_000, container="matroska", codec="flac")
    first, *frames = data.split(b"\xff\xf8")
    assert len(frames) > 20
    decodable = first + b"\xff\xf8" + frames[0] + b"\0\0" + b"\0\0".join(frames[1:])
    with pytest.raises(NotAudio, match="hardly any of its flac"):
        decode(decodable)


def test_a_program_stream_without_sound_has_no_audio_stream() -> None:
    """Video in an MPEG program stream is told from audio there."""
    with pytest.raises(NoAudioStream):
        decode(picture("mpeg", "mpeg1video", "yuv420p", 30))
    assert decode(program_stream(mp1(100))) > 0


@pytest.mark.parametrize("tracks", [2, 32])
def test_tracks_that_appear_on_the_way_are_left_alone(tracks: int) -> None:
    """A program stream has no header: more tracks may begin where nobody looked for them."""
    many, few = mp1(100) * 180, mp1(100) * 30  # FFmpeg looks at 5 MB, and at the end
    data = program_stream(many) + program_stream(mp1(4), tracks=tracks) + program_stream(few)
    assert decode(data) == (18_000 + 4 + 3_000) * 384 / 2


def test_the_page_lists_the_formats() -> None:
    """docs/formats.md has each that is opened, and no other."""
    listed = table("What is read", column=1)
    assert sorted(chain(*listed)) == sorted(FORMATS.split(","))


def test_directories_are_searched_for_the_names_that_the_page_lists() -> None:
    """What is read is found where a directory is named."""
    listed = table("What is read", column=2, pattern=r"\.\w+\+?")
    assert set(chain(*listed)) <= AUDIO_SUFFIXES


def test_the_page_lists_the_decoders() -> None:
    """docs/formats.md has each, and marks the codecs of which no test has a file."""
    listed = table("The codecs", column=1)
    assert sorted(chain(*listed)) == sorted(DECODERS.split(","))
    met = {row.decoder for row in rows()}
    marks = [bool(line) for line in table("The codecs", column=0, pattern="†")]
    assert marks == [not met & set(decoders) for decoders in listed]


def table(heading: str, *, column: int, pattern: str = r"(?<=`)[a-z0-9_]+(?=`)") -> list[list[str]]:
    """What of a column of the table under a heading matches, line by line."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.split("\n") if line.startswith("| ")]
    return [re.findall(pattern, line.split("|")[column + 1]) for line in lines[2:]]
