"""The decode stage, and ffmpeg's own program in its place: formats, and what is no audio."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import psutil
import pytest

from storage.errors import (
    AudioTooLong,
    AudioTooShort,
    JobError,
    NoAudioStream,
    NotAudio,
    StageTimeout,
)
from storage.objects.blob import Blob
from tests.support.audio_files import (
    ample_limits,
    encode,
    id3_with_cover,
    m4a,
    mp3,
    pcm16,
    silent_flac,
    tone,
    video,
    video_only,
    wav,
)
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.clip import Waveform
from worker.stages.decode import Decode
from worker.stages.normalize import Normalize

SECONDS = 2.0

FORMATS: dict[str, Callable[[], bytes]] = {
    "wav 8 bits": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_u8"),
    "wav 16 bits": lambda: wav(pcm16(tone(SECONDS))),
    "wav 24 bits": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_s24le"),
    "wav 32 bits": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_s32le"),
    "wav float": lambda: wav(tone(SECONDS).tobytes(), form=3, bits=32),
    "wav double": lambda: encode(tone(SECONDS), 16_000, container="wav", codec="pcm_f64le"),
    "wav mu-law 8 kHz": lambda: encode(
        tone(SECONDS, 8_000), 8_000, container="wav", codec="pcm_mulaw"
    ),
    "mp3 stereo": partial(mp3, SECONDS, layout="stereo"),
    "mp3 with cover": lambda: id3_with_cover(b"title", bytes(50_000)) + mp3(SECONDS),
    "m4a": partial(m4a, SECONDS),
    "opus": lambda: encode(tone(SECONDS, 48_000), 48_000, container="ogg", codec="libopus"),
    "flac": lambda: encode(tone(SECONDS, 44_100), 44_100, container="flac", codec="flac"),
    "aac": lambda: encode(tone(SECONDS, 44_100), 44_100, container="adts", codec="aac"),
    "ac3": lambda: encode(tone(SECONDS, 48_000), 48_000, container="ac3", codec="ac3"),
    "aiff": lambda: encode(tone(SECONDS, 44_100), 44_100, container="aiff", codec="pcm_s16be"),
    "au": lambda: encode(tone(SECONDS, 8_000), 8_000, container="au", codec="pcm_mulaw"),
    "caf with alac": lambda: encode(tone(SECONDS, 44_100), 44_100, container="caf", codec="alac"),
    "mp2 in mpegts": lambda: encode(tone(SECONDS, 44_100), 44_100, container="mpegts", codec="mp2"),
    "mp3 in avi": lambda: encode(
        tone(SECONDS, 44_100), 44_100, container="avi", codec="libmp3lame"
    ),
    "opus in webm": lambda: encode(
        tone(SECONDS, 48_000), 48_000, container="webm", codec="libopus"
    ),
    "tta in matroska": lambda: encode(
        tone(SECONDS, 44_100), 44_100, container="matroska", codec="tta"
    ),
    "wavpack in matroska": lambda: encode(
        tone(SECONDS, 44_100), 44_100, container="matroska", codec="wavpack"
    ),
    "w64": lambda: encode(tone(SECONDS, 44_100), 44_100, container="w64", codec="pcm_s16le"),
    "amr": lambda: encode(tone(SECONDS, 8_000), 8_000, container="amr", codec="libopencore_amrnb"),
}


def made(name: str) -> bytes:
    """A file in one of FORMATS; the wheels of PyAV have every encoder that is needed."""
    return FORMATS[name]()


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> AudioLimits:
    """Limits that no ordinary file meets."""
    return ample_limits(tmp_path_factory.mktemp("spool"))


@pytest.fixture(scope="module")
def processes(limits: AudioLimits) -> Iterator[DecodeProcesses]:
    """Two decode processes for all tests that do them no harm."""
    processes = DecodeProcesses(2, limits)
    yield processes
    processes.close()


@pytest.fixture(params=["processes", "command line"])
def decode(
    request: pytest.FixtureRequest, processes: DecodeProcesses, limits: AudioLimits
) -> Callable[[bytes], Waveform]:
    """Both ways to decode: the stage, and the isolated command line."""
    if request.param == "processes":
        stage = Decode(processes, limits)
        return lambda data: stage(Blob.from_bytes(data))
    return lambda data: decode_isolated(Blob.from_bytes(data), limits)


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str, decode: Callable[[bytes], Waveform]) -> None:
    """Every format gives the same tone: its length, its level and its pitch."""
    waveform = decode(made(name))
    assert waveform.samples.dtype == np.float32
    assert not waveform.samples.flags.writeable
    assert waveform.warnings == ()
    assert waveform.duration_seconds == pytest.approx(SECONDS, abs=0.06)
    middle = waveform.samples[8_000:24_000]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=0.2)  # AMR is lossy
    assert np.abs(np.fft.rfft(middle)).argmax() == 440


@pytest.mark.parametrize("name", ["wav 24 bits", "mp3 stereo", "opus", "flac", "wav mu-law 8 kHz"])
def test_the_command_line_agrees(
    name: str, processes: DecodeProcesses, limits: AudioLimits
) -> None:
    """A suspect file decoded in isolation gives what the decode process gives."""
    data = made(name)
    ordinary = Decode(processes, limits)(Blob.from_bytes(data))
    isolated = decode_isolated(Blob.from_bytes(data), limits)
    np.testing.assert_allclose(isolated.samples, ordinary.samples, atol=1e-5)


def test_direct_reading_agrees_with_the_processes(processes: DecodeProcesses) -> None:
    """A plain WAV read directly has exactly the samples that FFmpeg gives."""
    data = FORMATS["wav 16 bits"]()
    with Blob.from_bytes(data) as blob:
        decoded = processes.decode(blob)
    expected = np.frombuffer(data[44:], "<i2") / np.float32(32768)
    np.testing.assert_array_equal(decoded.samples, expected)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(b"", NotAudio, id="empty"),
        pytest.param(b"<html><body>not found</body></html>" * 300, NotAudio, id="web page"),
        pytest.param(b"#EXTM3U\n#EXTINF:9,\n/etc/hostname\n", NotAudio, id="hls"),
        pytest.param(
            b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            b"m=audio 5004 RTP/AVP 0\r\n",
            NotAudio,
            id="sdp",
        ),
        pytest.param(np.random.default_rng(1).bytes(50_000), NotAudio, id="random bytes"),
        pytest.param(wav(b"", sample_rate_hz=8_000), NotAudio, id="no samples"),
        pytest.param(
            wav(pcm16(tone(199 / 8_000, 8_000)), sample_rate_hz=8_000),
            AudioTooShort,
            id="398 samples",
        ),
    ],
)
def test_what_cannot_be_classified(
    data: bytes, error: type[JobError], decode: Callable[[bytes], Waveform]
) -> None:
    """Bad files get their own error, by either way, and none that would be retried."""
    with pytest.raises(error) as caught:
        decode(data)
    assert not caught.value.retryable


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("sample_rate_hz", [16_000, 44_100])
def test_a_sample_that_is_no_number_fails_the_file(
    bad: float, sample_rate_hz: int, decode: Callable[[bytes], Waveform]
) -> None:
    """NaN or infinity in a float file does not get past decode and normalize, resampled or not."""
    samples = tone(1.0, sample_rate_hz)
    samples[5_000] = bad
    data = wav(samples.tobytes(), form=3, bits=32, sample_rate_hz=sample_rate_hz)
    with pytest.raises(NotAudio, match="finite"):
        Normalize(30)(decode(data))


@pytest.mark.parametrize(("container", "codec"), [("wav", "adpcm_swf"), ("avi", "adpcm_swf")])
def test_codecs_of_games_and_flash_are_refused(
    container: str, codec: str, decode: Callable[[bytes], Waveform]
) -> None:
    """FFmpeg could decode them; nobody sends them but to get at a rarely used decoder."""
    data = encode(tone(1.0, 44_100), 44_100, container=container, codec=codec)
    with pytest.raises(NotAudio):
        decode(data)


def test_the_sound_of_a_video(decode: Callable[[bytes], Waveform]) -> None:
    """No decoder of pictures is opened, also not to look at the file, and the sound is there."""
    waveform = decode(video(SECONDS))
    assert waveform.duration_seconds == pytest.approx(SECONDS, abs=0.06)


def test_no_audio_track(processes: DecodeProcesses, limits: AudioLimits) -> None:
    """A video without sound keeps its error across the process boundary."""
    with pytest.raises(NoAudioStream, match="no audio track"):
        Decode(processes, limits)(Blob.from_bytes(video_only()))


def test_the_blob_is_closed(processes: DecodeProcesses, limits: AudioLimits) -> None:
    """Each way to decode consumes its blob, also where it fails."""
    for data in (mp3(0.5), b"not audio"):
        for decode in (Decode(processes, limits), lambda blob: decode_isolated(blob, limits)):
            blob = Blob.from_bytes(data)
            fd = blob.fd
            try:
                decode(blob)
            except NotAudio:
                assert data == b"not audio"
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)


def test_a_sample_rate_of_1_hz_does_not_hang(limits: AudioLimits) -> None:
    """A header that turns a second of bytes into hours ends at the limit of the command line."""
    data = wav(bytes(32_000), sample_rate_hz=1)
    with pytest.raises((AudioTooLong, NotAudio)):
        decode_isolated(Blob.from_bytes(data), replace(limits, max_audio_seconds=5))


def test_the_command_line_is_stopped_in_time(limits: AudioLimits) -> None:
    """A program that is past its limit is killed, and reaped."""
    before = psutil.Process().children()
    with pytest.raises(StageTimeout, match="EMO_DECODE_TIMEOUT_SECONDS"):
        decode_isolated(Blob.from_bytes(silent_flac(1_200)), replace(limits, timeout_seconds=0))
    assert psutil.Process().children() == before
