"""The decode stage, and ffmpeg's own program in its place: formats, and what is no audio."""

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import imageio_ffmpeg
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
from storage.objects.local_files import is_audio
from tests.support.audio_files import (
    ample_limits,
    encode,
    id3_with_cover,
    m4a,
    mp3,
    pcm16,
    silent_flac,
    tone,
    tracks,
    video,
    video_only,
    vorbis,
    wav,
    wma,
)
from tests.support.handmade_audio import dsf, speech, sphere
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.clip import Fetched, Waveform
from worker.stages.decode import Decode
from worker.stages.normalize import Normalize
from worker.warning import AudioWarning

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
    "eac3": lambda: encode(tone(SECONDS, 48_000), 48_000, container="eac3", codec="eac3"),
    "aac in flv": lambda: encode(tone(SECONDS, 44_100), 44_100, container="flv", codec="aac"),
    "nellymoser in flv": lambda: encode(
        tone(SECONDS, 22_050), 22_050, container="flv", codec="nellymoser"
    ),
    "mp2 in mpeg": lambda: encode(tone(SECONDS, 48_000), 48_000, container="mpeg", codec="mp2"),
    "pcm in vob": lambda: encode(tone(SECONDS, 48_000), 48_000, container="vob", codec="pcm_dvd"),
    "aac in loas": lambda: encode(tone(SECONDS, 44_100), 44_100, container="latm", codec="aac"),
    "voc": lambda: encode(tone(SECONDS, 16_000), 16_000, container="voc", codec="pcm_s16le"),
    "wavpack": lambda: encode(tone(SECONDS, 44_100), 44_100, container="wv", codec="wavpack"),
    "tta": lambda: encode(tone(SECONDS, 44_100), 44_100, container="tta", codec="tta"),
    "dsf": lambda: dsf(tone(SECONDS, 352_800)[None]),
    "sphere": lambda: sphere(pcm16(tone(SECONDS)), 16_000),
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
        return lambda data: stage(Fetched(Blob.from_bytes(data))).whole
    return lambda data: decode_isolated(Blob.from_bytes(data), limits)[0]


@pytest.mark.parametrize("name", FORMATS)
def test_formats(name: str, decode: Callable[[bytes], Waveform]) -> None:
    """Every format gives the same tone: its length, its level and its pitch."""
    waveform = decode(made(name))
    assert waveform.floats().dtype == np.float32
    assert not waveform.samples.flags.writeable
    assert waveform.warnings == ()
    assert waveform.duration_seconds == pytest.approx(SECONDS, abs=0.06)
    middle = waveform.floats()[8_000:24_000]
    assert np.sqrt(2 * np.mean(middle**2)) == pytest.approx(0.5, rel=0.2)  # AMR is lossy
    assert np.abs(np.fft.rfft(middle)).argmax() == 440


AAC_FRAME_SECONDS = 1_024 / 44_100
SAMPLES = Path(__file__).parents[3] / "samples"
KNOWN: dict[str, Callable[[], bytes]] = FORMATS | {
    "flac 32 bits": lambda: encode(tone(SECONDS), 16_000, container="flac", codec="flac"),
    "mp4 24 bits": lambda: encode(tone(SECONDS), 48_000, container="mov", codec="pcm_s24le"),
    "wma": partial(wma, SECONDS),
    "video": partial(video, SECONDS, picture_seconds=5),
    "two tracks": lambda: tracks([tone(SECONDS, 44_100), tone(1.0, 44_100)], 44_100),
    "chain of two rates": lambda: vorbis(SECONDS) + vorbis(1.0, 44_100),
    "joined wav": lambda: wav(pcm16(tone(SECONDS))) * 2,
    "joined mp3": lambda: mp3(SECONDS) + id3_with_cover(b"title", b"") + mp3(SECONDS),
    **{path.name: path.read_bytes for path in SAMPLES.iterdir() if is_audio(path)},
}


def outcome(decode: Callable[[Blob], Waveform], data: bytes) -> Waveform | type[JobError]:
    """A waveform, or the kind of error in its place."""
    try:
        return decode(Blob.from_bytes(data))
    except JobError as error:
        return type(error)


@pytest.mark.parametrize("name", KNOWN)
def test_the_command_line_agrees(
    name: str, processes: DecodeProcesses, limits: AudioLimits
) -> None:
    """A suspect decoded in isolation gives the samples and the warnings of the decode process.

    Whole and cut short. What pads the last frame of AAC, silence, FFmpeg 9 leaves out, and the
    libraries of FFmpeg 8 do not.
    """
    data = KNOWN[name]()
    for part in (1.0, 0.5):
        cut = data[: int(part * len(data))]
        ordinary = outcome(lambda blob: processes.decode(blob)[0], cut)
        isolated = outcome(lambda blob: decode_isolated(blob, limits)[0], cut)
        if isinstance(ordinary, type) or isinstance(isolated, type):
            assert isolated == ordinary
            continue
        assert isolated.warnings == ordinary.warnings
        shared, padded = len(isolated.floats()), len(ordinary.floats())
        assert 0 <= padded - shared <= AAC_FRAME_SECONDS * 16_000
        edge = shared - 16 * (padded > shared)  # what the filter makes of the end
        np.testing.assert_allclose(isolated.floats()[:edge], ordinary.floats()[:edge], atol=2e-4)


def test_the_command_line_agrees_on_a_change_of_rate(
    processes: DecodeProcesses, limits: AudioLimits
) -> None:
    """The program drops the last millisecond before it, which its filter holds back."""
    data = mp3(SECONDS, 24_000) + id3_with_cover(b"title", b"") + mp3(SECONDS)
    (ordinary,) = processes.decode(Blob.from_bytes(data))
    (isolated,) = decode_isolated(Blob.from_bytes(data), limits)
    assert isolated.warnings == ordinary.warnings == ()
    assert isolated.duration_seconds == pytest.approx(ordinary.duration_seconds, abs=0.002)


@pytest.mark.parametrize("name", ["flac", "opus", "aac", "m4a", "mp2 in mpegts"])
def test_damage_is_seen_by_both(name: str, decode: Callable[[bytes], Waveform]) -> None:
    """Noise in the middle of a file is told of, where packets fail or stamps are apart."""
    data = bytearray(made(name))
    middle, length = len(data) // 2, len(data) // 10
    data[middle : middle + length] = np.random.default_rng(0).bytes(length)
    assert decode(bytes(data)).warnings == (AudioWarning.DAMAGED,)


@pytest.mark.parametrize("sample_rate_hz", [1, 999, 768_001, 2**31 - 1])
def test_a_rate_that_is_none_is_not_audio(
    sample_rate_hz: int, decode: Callable[[bytes], Waveform]
) -> None:
    """Whoever decodes it says so at once, and nobody tries again."""
    with pytest.raises(NotAudio, match="sample rate"):
        decode(wav(bytes(64_000), sample_rate_hz=sample_rate_hz))


def test_the_first_track_that_can_be_decoded(decode: Callable[[bytes], Waveform]) -> None:
    """One of a codec that nobody knows is passed over."""
    both = tracks([tone(3.0, 44_100), tone(2.0, 44_100)], 44_100)
    unknown = both.replace(b"mp4a", b"apac", 1).replace(b"esds", b"free", 1)
    assert decode(unknown).duration_seconds == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_surround_is_mixed_alike_by_either_way(
    codec: str, processes: DecodeProcesses, limits: AudioLimits
) -> None:
    """Also where the file says how loud its centre and surround are to be mixed."""
    data = encode(speech(48_000, 6), 48_000, container=codec, codec=codec, layout="5.1")
    (ordinary,) = processes.decode(Blob.from_bytes(data))
    (isolated,) = decode_isolated(Blob.from_bytes(data), limits)
    np.testing.assert_allclose(isolated.floats(), ordinary.floats(), atol=1e-5)


def test_direct_reading_agrees_with_the_processes(processes: DecodeProcesses) -> None:
    """A plain WAV read directly has exactly the samples that FFmpeg gives."""
    data = FORMATS["wav 16 bits"]()
    with Blob.from_bytes(data) as blob:
        (decoded,) = processes.decode(blob)
    expected = np.frombuffer(data[44:], "<i2") / np.float32(32768)
    np.testing.assert_array_equal(decoded.floats(), expected)


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
        Normalize(30).clip(decode(data).floats())


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


@pytest.mark.parametrize(
    ("muxer", "subtitles"), [("matroska", "srt"), ("mp4", "mov_text"), ("webm", "webvtt")]
)
def test_the_sound_of_a_film_with_subtitles(
    muxer: str, subtitles: str, decode: Callable[[bytes], Waveform], tmp_path: Path
) -> None:
    """Tracks of text beside it change nothing."""
    (tmp_path / "sound").write_bytes(made("wav 16 bits"))
    (tmp_path / "text.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n", "utf-8")
    line = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "sound", "-i", "text.srt"]
    line += ["-map", "0", "-map", "1", "-c:a", "libopus" if muxer == "webm" else "aac"]
    line += ["-c:s", subtitles, "-f", muxer, "film"]
    subprocess.run(line, cwd=tmp_path, check=True)
    waveform = decode((tmp_path / "film").read_bytes())
    assert waveform.duration_seconds == pytest.approx(SECONDS, abs=0.1)


def test_no_audio_track(decode: Callable[[bytes], Waveform]) -> None:
    """A video without sound has an error of its own."""
    with pytest.raises(NoAudioStream, match="no audio track"):
        decode(video_only())


def test_the_blob_is_closed(processes: DecodeProcesses, limits: AudioLimits) -> None:
    """Each way to decode consumes its blob, also where it fails."""
    for data in (mp3(0.5), b"not audio"):
        stage = Decode(processes, limits)
        for decode in (stage, stage.isolated):
            blob = Blob.from_bytes(data)
            fd = blob.fd
            try:
                decode(Fetched(blob))
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
