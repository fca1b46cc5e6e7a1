"""The PyAV decoder: gains, resampling, damaged and truncated files, and what is no audio at all."""

import socket
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import NoAudioStream, NotAudio
from storage.objects.blob import Blob
from tests.support.audio_files import (
    dts,
    encode,
    id3,
    id3_with_cover,
    m4a,
    mp3,
    pcm16,
    silent_flac,
    tone,
    video_only,
    wav,
)
from worker.audio.libav import Decoder
from worker.warning import AudioWarning

WEB_PAGE = "<!DOCTYPE html><html><body>" + "<p>Nicht gefunden: é à ü</p>\n" * 500 + "</html>"


def decode(data: bytes) -> tuple[NDArray[np.float32], Decoder]:
    """All samples of a file, and the decoder that read them."""
    with Blob.from_bytes(data) as blob:
        decoder = Decoder(blob.fd, blob.size, sample_rate_hz=16_000)
        samples = b"".join(decoder.chunks())
    return np.frombuffer(samples, np.float32), decoder


def gain(planes: list[NDArray[np.float32]], layout: str) -> float:
    """Peak of the mono mix over the peak of a tone in the given channels."""
    data = encode(planes, 16_000, container="wav", codec="pcm_f32le", layout=layout)
    return float(np.abs(decode(data)[0]).max() / np.abs(tone(0.5)).max())


def test_stereo_is_averaged() -> None:
    """Mono is 0.5 (L + R): the same in both channels keeps its level, one channel alone halves."""
    sound, silence = tone(0.5), np.zeros(8_000, np.float32)
    assert gain([sound, sound], "stereo") == pytest.approx(1.0, abs=1e-6)
    assert gain([sound, silence], "stereo") == pytest.approx(0.5, abs=1e-6)
    assert gain([silence, sound], "stereo") == pytest.approx(0.5, abs=1e-6)
    assert gain([sound, -sound], "stereo") == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("layout", ["2.1", "quad", "5.1", "7.1"])
def test_surround_never_exceeds_full_scale(layout: str) -> None:
    """The same tone in every channel of a surround file comes out at its own level."""
    channels = {"2.1": 3, "quad": 4, "5.1": 6, "7.1": 8}[layout]
    assert gain([tone(0.5)] * channels, layout) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("channels", [2, 6])
def test_dts_among_the_samples_of_a_wav_file_is_found(channels: int) -> None:
    """As on some discs, its header says 16-bit PCM: played as that it would be noise."""
    data = wav(dts(1.0, channels=channels), channels=2, sample_rate_hz=44_100)
    sound = decode(data)[0][2_000:14_000]
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    peak = 440 * len(sound) // 16_000
    assert spectrum[peak - 3 : peak + 4].sum() > 0.999 * spectrum.sum()


@pytest.mark.parametrize("sample_rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_is_accurate(sample_rate_hz: int) -> None:
    """A tone at any rate is the same tone at 16 kHz, within -80 dB, up to its very end."""
    source = tone(1.0, sample_rate_hz)
    data = encode(source, sample_rate_hz, container="wav", codec="pcm_f32le")
    samples, _ = decode(data)
    assert len(samples) == 16_000
    inner = slice(100, -100)  # the filter knows nothing beyond the ends
    np.testing.assert_allclose(samples[inner], tone(1.0)[inner], atol=5e-5)


def test_a_change_of_format_in_mid_stream_is_followed() -> None:
    """Stereo 44.1 kHz that goes on as mono 22.05 kHz is decoded to its end, at one level."""
    samples, decoder = decode(mp3(2.0, 44_100, layout="stereo") + mp3(2.0, 22_050))
    assert len(samples) == pytest.approx(4 * 16_000, abs=0.15 * 16_000)
    levels = [np.abs(part).max() for part in np.array_split(samples, 8)]
    assert min(levels) == pytest.approx(0.5, abs=0.05)
    assert decoder.damaged_packets <= 2


def test_tags_and_cover_art_change_nothing() -> None:
    """An MP3 with a large cover and a title in no known encoding decodes like one without."""
    plain = mp3(1.0)
    tagged = id3_with_cover(b"\xc4\xe9\xff\xfe\x81", b"\xff\xd8\xff\xe0" + bytes(300_000)) + plain
    np.testing.assert_array_equal(decode(tagged)[0], decode(plain)[0])
    assert decode(tagged)[1].warnings == ()


def test_damaged_packets_are_left_out_and_counted() -> None:
    """Noise in the middle of an MP3 costs the packets it hits, and nothing after them."""
    data = bytearray(mp3(4.0))
    middle = len(data) // 2
    data[middle : middle + 2_000] = np.random.default_rng(0).bytes(2_000)
    samples, decoder = decode(bytes(data))
    assert decoder.damaged_packets >= 1
    assert len(samples) > 3.5 * 16_000
    np.testing.assert_allclose(np.abs(samples[-16_000:-1_000]).max(), 0.5, atol=0.05)


def whole(container: str, codec: str, sample_rate_hz: int = 48_000) -> bytes:
    """Four seconds of a tone."""
    return encode(tone(4.0, sample_rate_hz), sample_rate_hz, container=container, codec=codec)


STATE_THEIR_LENGTH: dict[str, Callable[[], bytes]] = {
    "mp3": partial(mp3, 4.0),
    "mp3 with cover": lambda: id3_with_cover(b"title", bytes(9_000)) + mp3(4.0),
    "m4a": partial(m4a, 4.0, index_first=True),
    "flac": partial(whole, "flac", "flac"),
    "opus": partial(whole, "ogg", "libopus"),
    "webm": partial(whole, "webm", "libopus"),
    "wav": partial(whole, "wav", "pcm_s16le"),
    "aiff": partial(whole, "aiff", "pcm_s16be"),
}


@pytest.mark.parametrize("name", STATE_THEIR_LENGTH)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncation_is_seen(name: str, part: float) -> None:
    """A file whose container states its length or its end is known to be cut short, or whole."""
    data = STATE_THEIR_LENGTH[name]()
    all_of_it, decoder = decode(data)
    assert decoder.warnings == ()
    rest, decoder = decode(data[: int(len(data) * part)])
    assert AudioWarning.TRUNCATED in decoder.warnings
    assert 0 < len(rest) < len(all_of_it)


def test_what_states_no_length_is_not_called_truncated() -> None:
    """Raw AAC, a WAV of unknown length and an MP3 without a count are taken as they are."""
    aac = whole("adts", "aac")
    streamed = wav(pcm16(tone(4.0, 8_000)), sample_rate_hz=8_000, data_size=0xFFFFFFFF)
    uncounted = mp3(4.0).replace(b"Xing", b"\0\0\0\0").replace(b"Info", b"\0\0\0\0")
    for data in (aac, aac[: len(aac) // 2], streamed, uncounted, uncounted[: len(uncounted) // 2]):
        assert decode(data)[1].warnings == ()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(WEB_PAGE.encode(), id="web page"),
        pytest.param(WEB_PAGE.encode("latin-1"), id="web page in latin-1"),
        pytest.param(WEB_PAGE.encode("utf-16"), id="web page in utf-16"),
        pytest.param(b'{"error": "no such key"}', id="json"),
        pytest.param(b"#EXTM3U\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", id="hls"),
        pytest.param(b"ffconcat version 1.0\nfile '/etc/hostname'\n", id="concat"),
        pytest.param(id3(bytes(500), size=200_000_000), id="tag longer than the file"),
        pytest.param(id3(bytes(50_000), size=200_000_000) + mp3(1.0), id="tag over the audio"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(b"\xff" * 100_000, id="ones"),
        pytest.param(mp3(1.0)[:100], id="a tenth of a frame"),
        pytest.param(m4a(4.0)[:-3_000], id="index cut off"),
        pytest.param(wav(bytes(8_000), sample_rate_hz=1), id="sample rate of 1 Hz"),
        pytest.param(wav(bytes(8_000), sample_rate_hz=0), id="sample rate of 0 Hz"),
        pytest.param(wav(bytes(8_000), channels=0), id="no channels"),
        pytest.param(wav(bytes(8_000), form=0x4242), id="unknown codec"),
        pytest.param(wav(b"", sample_rate_hz=8_000), id="no samples"),
    ],
)
def test_what_is_not_audio_is_refused(data: bytes) -> None:
    """Bytes that are no audio are refused, whatever FFmpeg could make of them."""
    with pytest.raises(NotAudio):
        decode(data)


@pytest.mark.parametrize("size", [500, 10_000, 100_000])
def test_random_bytes_are_refused(size: int) -> None:
    """Noise is never recognised as a format by luck."""
    rng = np.random.default_rng(size)
    for _ in range(20):
        with pytest.raises(NotAudio):
            decode(rng.bytes(size))


def test_a_dash_manifest_opens_no_connection() -> None:
    """A manifest that names a listening server is refused, and the server hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        manifest = (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
            '<AdaptationSet mimeType="audio/mp4"><Representation id="1" bandwidth="1000">'
            f"<BaseURL>{url}</BaseURL></Representation></AdaptationSet></Period></MPD>"
        )
        with pytest.raises(NotAudio):
            decode(manifest.encode())
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_file_without_sound_has_no_audio_stream() -> None:
    """A video without an audio track is named as such."""
    with pytest.raises(NoAudioStream):
        decode(video_only())


def test_nothing_is_held_whole() -> None:
    """Ten minutes of silence in a small file come in chunks of a few seconds at most."""
    with Blob.from_bytes(silent_flac(600)) as blob:
        chunks = Decoder(blob.fd, blob.size, sample_rate_hz=16_000).chunks()
        sizes = [len(chunk) // 4 for chunk in chunks]
    assert sum(sizes) == 600 * 16_000
    assert max(sizes) < 3 * 16_000
