"""The direct WAV reader: what it reads, and what it leaves to the decode processes."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import AudioTooShort
from storage.objects.blob import Blob
from tests.support.audio_files import chunk, pcm16, tone, wav
from worker.audio.wav import read_plain
from worker.clip import Waveform
from worker.warning import AudioWarning

MAX_SAMPLES = 16_000
PCM = pcm16(tone(0.1))


def read(data: bytes) -> Waveform | None:
    """Read a file held in memory."""
    with Blob.from_bytes(data) as blob:
        return read_plain(blob, MAX_SAMPLES)


def samples_of(data: bytes) -> list[float]:
    """The samples of a file that must be readable."""
    waveform = read(data)
    assert waveform is not None
    values: list[float] = waveform.floats().tolist()
    return values


@given(st.binary(min_size=800, max_size=1_000))
def test_int16_becomes_v_over_32768(data: bytes) -> None:
    """Every 16-bit value v is kept, and stands for exactly v / 32768."""
    values = [value for (value,) in struct.iter_unpack("<h", data[: len(data) // 2 * 2])]
    assert samples_of(wav(data)) == [value / 32768 for value in values]


def test_float_samples_are_read_as_they_are() -> None:
    """A 32-bit float file keeps its values, those beyond 1 included, and cannot be written to."""
    samples = tone(0.1, amplitude=1.5)
    waveform = read(wav(samples.tobytes(), form=3, bits=32))
    assert waveform is not None
    np.testing.assert_array_equal(waveform.samples, samples)
    assert waveform.samples.dtype == np.float32
    assert not waveform.samples.flags.writeable


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(wav(PCM, before=chunk(b"LIST", b"odd")), id="odd chunk before the data"),
        pytest.param(wav(PCM, before=chunk(b"\xff\x00zz", b"1234")), id="unknown chunk"),
        pytest.param(wav(PCM, after=chunk(b"LIST", b"INFOISFT")), id="chunk after the data"),
        pytest.param(wav(PCM, form=0xFFFE), id="extensible"),
        pytest.param(wav(PCM, data_size=0xFFFFFFFF), id="streamed, 4 GiB"),
        pytest.param(wav(PCM, data_size=0x80000000), id="streamed, 2 GiB"),
        pytest.param(wav(PCM, data_size=0), id="streamed, 0"),
        pytest.param(wav(PCM + b"\x01", data_size=len(PCM) + 1), id="half a sample at the end"),
    ],
)
def test_odd_headers_are_understood(data: bytes) -> None:
    """Whatever stands around them, the same samples are read, and nothing is truncated."""
    waveform = read(data)
    assert waveform is not None
    assert waveform.warnings == ()
    assert waveform.floats().tolist() == samples_of(wav(PCM))


SECOND = pcm16(tone(1.0))


@pytest.mark.parametrize(
    ("data", "warnings"),
    [
        pytest.param(wav(SECOND, data_size=len(SECOND) + 44), (), id="44 bytes too many"),
        pytest.param(wav(SECOND, data_size=len(SECOND) + 1), (), id="1 byte too many"),
        pytest.param(wav(SECOND, data_size=len(SECOND) + 7_999), (), id="just below 0.25 s"),
        pytest.param(
            wav(SECOND, data_size=len(SECOND) + 8_002), (AudioWarning.TRUNCATED,), id="just above"
        ),
        pytest.param(wav(PCM) * 5, (AudioWarning.TRAILING_DATA,), id="five files joined"),
        pytest.param(
            wav(SECOND, data_size=len(PCM)), (AudioWarning.TRAILING_DATA,), id="samples behind"
        ),
        pytest.param(
            wav(SECOND, after=chunk(b"LIST", bytes(50_000))), (), id="a long chunk behind"
        ),
        pytest.param(
            wav(SECOND[:-1], after=chunk(b"id3 ", b"x" * 50_000)), (), id="a chunk at an odd offset"
        ),
        pytest.param(wav(SECOND) + b"TAG" + bytes(125), (), id="a tag behind"),
    ],
)
def test_a_header_may_count_wrongly(data: bytes, warnings: tuple[AudioWarning, ...]) -> None:
    """A quarter of a second more or less is no matter; beyond, what is there is given, and said."""
    waveform = read(data)
    assert waveform is not None
    assert waveform.warnings == warnings
    assert len(waveform.samples) in (len(PCM) // 2, len(SECOND) // 2, len(SECOND) // 2 - 1)


def test_the_length_of_a_long_file_is_read() -> None:
    """RF64 has the length of its data in a chunk of its own."""
    sizes = chunk(b"ds64", struct.pack("<QQQI", 0, len(SECOND), len(SECOND) // 2, 0))
    data = b"RF64" + wav(SECOND, data_size=0xFFFFFFFF, before=sizes)[4:]
    whole, cut = read(data), read(data[: -len(SECOND) // 2])
    assert whole is not None
    assert whole.warnings == ()
    assert cut is not None
    assert cut.warnings == (AudioWarning.TRUNCATED,)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"RIFF", id="cut in the header"),
        pytest.param(wav(PCM)[:40], id="cut before the data"),
        pytest.param(b"RIFX" + wav(PCM)[4:], id="big-endian"),
        pytest.param(wav(b""), id="no samples"),
        pytest.param(wav(PCM, channels=2), id="stereo"),
        pytest.param(wav(PCM, sample_rate_hz=8000), id="8 kHz"),
        pytest.param(wav(PCM, bits=8), id="8 bits"),
        pytest.param(wav(PCM, form=3, bits=64), id="double precision"),
        pytest.param(wav(PCM, form=7, bits=8), id="mu-law"),
        pytest.param(wav(PCM, before=chunk(b"JUNK", b"") * 1000), id="thousands of chunks"),
        pytest.param(wav(bytes(2 * (MAX_SAMPLES + 1))), id="longer than is read directly"),
    ],
)
def test_everything_else_is_left_to_the_processes(data: bytes) -> None:
    """A file that is not plain gives None, and no error."""
    assert read(data) is None


def test_399_samples_are_too_short() -> None:
    """One sample less than a frame is an error of its own; one frame is enough."""
    with pytest.raises(AudioTooShort, match="399 samples"):
        read(wav(bytes(2 * 399)))
    assert len(samples_of(wav(bytes(2 * 400)))) == 400
