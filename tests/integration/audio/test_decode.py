"""The decode stage, and ffmpeg's own program in its place: formats, and what is no audio."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from storage.errors import AudioTooShort, JobError, NoAudioStream, NotAudio
from storage.objects.blob import Blob
from tests.support.audio_files import encode, mp3, pcm16, tone, tracks, video, video_only, wav
from tests.support.audio_formats import FORMATS, SECONDS, made
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.clip import Fetched, Waveform
from worker.stages.decode import Decode
from worker.stages.normalize import Normalize
from worker.warning import AudioWarning


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
