"""Recordings that leave the decode stage at their own rate, and what is made of them then.

Beside each, the same as decode processes resample it: what is promised of one holds of the other.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from storage.errors import AudioTooShort
from storage.objects.blob import Blob
from storage.wire.channels import EACH
from storage.wire.messages import Want
from storage.wire.parts import Parts, SegmentAsked
from tests.support.audio_files import encode, mp3, tone
from tests.support.own_rate import Ways, flac, int16_wav, stereo
from tests.support.resampling import NO_DIVISOR, RATES, band, noise, power
from tests.support.stages import float_wav
from worker.clip import Fetched, Renditions

SECONDS = 1.5

# By what is in it: the file at a rate, and what it is carried as.
KINDS: dict[str, tuple[Callable[[int], bytes], type[np.generic]]] = {
    "16-bit WAV, read directly": (lambda rate: int16_wav(noise(rate), rate), np.int16),
    "float WAV, read directly": (lambda rate: float_wav(noise(rate), rate), np.float32),
    "16-bit FLAC": (lambda rate: flac(noise(rate), rate), np.int16),
    "16-bit stereo, mixed": (lambda rate: flac(stereo(rate), rate, "stereo"), np.float32),
    "24-bit WAV": (
        lambda rate: encode(noise(rate), rate, container="wav", codec="pcm_s24le"),
        np.float32,
    ),
    "a-law": (lambda rate: encode(noise(rate), rate, container="wav", codec="pcm_alaw"), np.int16),
}


@pytest.mark.parametrize("rate_hz", RATES)
@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_give_the_same_sound(ways: Ways, kind: str, rate_hz: int) -> None:
    """Level for level up to seven tenths of what the rates hold; as long, to a sample.

    Beyond, torchaudio's filter falls off sooner and more gently than FFmpeg's.
    """
    make, carried = KINDS[kind]
    data = make(rate_hz)
    own = ways.own(data).whole
    assert own.sample_rate_hz == rate_hz
    assert own.samples.dtype == carried
    assert not own.samples.flags.writeable
    one, other = ways.by_ffmpeg(data), ways.by_device(data)
    assert other.sample_rate_hz == 16_000
    assert other.samples.dtype == np.float32
    assert other.warnings == one.warnings == own.warnings == ()
    assert abs(len(one.samples) - len(other.samples)) <= 1
    assert own.duration_seconds == pytest.approx(other.duration_seconds, abs=1 / 16_000)
    nyquist_hz = min(rate_hz, 16_000) / 2
    difference = np.abs(10 * np.log10(power(other.floats()) / power(one.floats())))
    assert difference[band(0, 0.7 * nyquist_hz)].max() < 0.15  # dB
    assert difference[band(0, 0.8 * nyquist_hz)].max() < 0.8
    length = min(len(one.samples), len(other.samples))
    apart = power(one.floats()[:length] - other.floats()[:length])
    inside = band(0, 0.7 * nyquist_hz)
    assert apart[inside].sum() < 1e-3 * power(one.floats())[inside].sum()
    if rate_hz < 16_000:  # what is above its own half is silence
        above = power(other.floats())[band(1.3 * nyquist_hz, 8_000)]
        assert above.max() < 1e-4 * power(other.floats())[inside].mean()


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000])
def test_lossy_files_too(ways: Ways, rate_hz: int) -> None:
    """MP3 in stereo: decoded and mixed in the process, resampled behind it."""
    data = mp3(SECONDS, rate_hz, layout="stereo")
    assert ways.own(data).whole.sample_rate_hz == rate_hz
    one, other = ways.by_ffmpeg(data), ways.by_device(data)
    assert abs(len(one.samples) - len(other.samples)) <= 1
    length = min(len(one.samples), len(other.samples))
    np.testing.assert_allclose(one.samples[:length], other.samples[:length], atol=0.01)


def test_what_is_at_the_rate_of_the_model_is_as_it_was(ways: Ways) -> None:
    """To the last bit, and without the stage behind it."""
    for data in (int16_wav(noise(16_000), 16_000), flac(stereo(16_000), 16_000, "stereo")):
        own, other = ways.own(data).whole, ways.by_ffmpeg(data)
        assert own.sample_rate_hz == 16_000
        assert own.samples.dtype == other.samples.dtype
        assert np.array_equal(own.samples, other.samples)


@pytest.mark.parametrize(
    ("rate_hz", "fields"),
    [
        (NO_DIVISOR, {}),
        (44_100, {"parts": Parts(segments=(SegmentAsked(0.1, 0.6),))}),
        (44_100, {"parts": Parts(speech=True)}),
        (44_100, {"parts": Parts(channel=EACH)}),
        (44_100, {"renditions": Renditions(frozenset({Want.PEAKS}))}),
        (44_100, {"renditions": Renditions(frozenset({Want.PREVIEW}))}),
    ],
    ids=["no divisor", "segments", "speech", "each channel", "peaks", "preview"],
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_what_the_decode_process_resamples_nonetheless(
    ways: Ways, rate_hz: int, fields: dict[str, Any], layout: str
) -> None:
    """To the last bit as with `ffmpeg`, in a WAV file that could be read directly too."""
    samples = stereo(rate_hz) if layout == "stereo" else noise(rate_hz)
    data = int16_wav(samples.T, rate_hz, samples.ndim)
    own = ways.own(data, **fields).whole
    assert own.sample_rate_hz == 16_000
    assert np.array_equal(own.samples, ways.by_ffmpeg(data, **fields).samples)


@pytest.mark.parametrize("channel", ["0", "1"])
def test_a_channel_keeps_its_bits(ways: Ways, channel: str) -> None:
    """One that is picked is as the file has it: 16 bits, nothing mixed."""
    samples = stereo(8_000)
    parts = Parts(channel=channel)
    own = ways.own(flac(samples, 8_000, "stereo"), parts=parts).whole
    assert own.sample_rate_hz == 8_000
    assert own.samples.dtype == np.int16
    expected = ways.own(flac(samples[int(channel)], 8_000)).whole
    assert np.array_equal(own.samples, expected.samples)


def test_a_suspect_is_resampled_in_isolation(ways: Ways) -> None:
    """By ffmpeg's command line, whatever the setting."""
    data = mp3(SECONDS)
    isolated = ways.leaving.isolated(Fetched(Blob.from_bytes(data))).whole
    assert isolated.sample_rate_hz == 16_000
    np.testing.assert_allclose(isolated.samples, ways.by_ffmpeg(data).samples, atol=1e-4)


def test_a_file_of_several_rates_goes_one_way(ways: Ways) -> None:
    """Joined recordings: decoded anew, all of it to 16 kHz, to the last bit as ever."""
    parts = [
        encode(tone(SECONDS, rate), rate, container="ogg", codec="flac", sample_format="s16")
        for rate in (8_000, 44_100)
    ]
    data = b"".join(parts)
    own = ways.own(data).whole
    assert own.sample_rate_hz == 16_000
    assert own.duration_seconds == pytest.approx(2 * SECONDS, abs=0.01)
    assert np.array_equal(own.samples, ways.by_ffmpeg(data).samples)


def test_what_is_doubted_is_doubted_both_ways(ways: Ways) -> None:
    """A file that ends too soon, read directly and by a process."""
    whole = int16_wav(noise(3 * 44_100), 44_100)
    packed = flac(noise(3 * 44_100), 44_100)
    for data in (whole[: len(whole) // 2], packed[: len(packed) // 2]):
        warnings = ways.by_ffmpeg(data).warnings
        assert warnings
        assert ways.own(data).whole.warnings == warnings
        assert ways.by_device(data).warnings == warnings


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_too_short_is_so_once_it_is_resampled(ways: Ways, rate_hz: int) -> None:
    """A frame is 400 samples at 16 kHz: what is told of is those, by either reader."""
    least = 400 * rate_hz // 16_000
    for make in (int16_wav, flac):
        assert len(ways.by_device(make(noise(least), rate_hz)).samples) == 400
        with pytest.raises(AudioTooShort, match=r"has 39\d samples at 16000 Hz"):
            ways.own(make(noise(least - 3), rate_hz))


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_what_it_holds_is_counted_at_both_rates(ways: Ways, rate_hz: int) -> None:
    """Until it is resampled: what it is, and what it will be; then that alone."""
    recording = ways.own(int16_wav(noise(rate_hz), rate_hz))
    assert recording.held_bytes(10**9) == 2 * rate_hz + 4 * 16_000
    (resampled,) = ways.resample([recording])
    assert resampled.held_bytes(10**9) == 4 * 16_000
