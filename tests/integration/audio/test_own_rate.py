"""Recordings that leave the decode stage at their own rate, and what is made of them then.

Beside each, the same as decode processes resample it: what is promised of one holds of the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import AudioTooLong, AudioTooShort, JobError
from storage.objects.blob import Blob
from storage.wire.channels import EACH
from storage.wire.messages import Want
from storage.wire.parts import Parts, SegmentAsked
from tests.support.audio_files import ample_limits, encode, mp3, tone, wav
from tests.support.resampling import NO_DIVISOR, RATES, band, noise, power, resampler
from tests.support.stages import float_wav
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.clip import Fetched, Recording, Renditions, Waveform
from worker.engine.resampler import Resampler
from worker.stages.decode import Decode
from worker.stages.resample import Resample

SECONDS = 1.5
Sound = NDArray[np.float32]


class Ways:
    """Both ways to 16 kHz, on the same decode processes."""

    def __init__(
        self, processes: DecodeProcesses, limits: AudioLimits, resampler: Resampler
    ) -> None:
        self.processes = processes
        self.decode = Decode(processes, limits, lambda samples, forget: [(0, 1_600)])
        self.leaving = Decode(processes, limits, lambda samples, forget: [(0, 1_600)], resampler)
        self.resample = Resample(resampler)

    def own(self, data: bytes, **fields: Any) -> Recording:
        """As the decode stage leaves it."""
        return self.leaving(Fetched(Blob.from_bytes(data), **fields))

    def by_device(self, data: bytes, **fields: Any) -> Waveform:
        """Resampled by torchaudio, whoever does that."""
        return self.resample([self.own(data, **fields)])[0].whole

    def by_ffmpeg(self, data: bytes, **fields: Any) -> Waveform:
        """Resampled by the decode process."""
        return self.decode(Fetched(Blob.from_bytes(data), **fields)).whole


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """With limits that no ordinary file meets."""
    yield from _ways(ample_limits(tmp_path_factory.mktemp("spool")))


@pytest.fixture(scope="module")
def short_windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """What is longer than a second goes to the spool; more than twelve are too long."""
    limits = ample_limits(tmp_path_factory.mktemp("spool"))
    yield from _ways(replace(limits, window_seconds=1, max_audio_seconds=12))


def _ways(limits: AudioLimits) -> Iterator[Ways]:
    resample = resampler()
    processes = DecodeProcesses(1, limits)
    yield Ways(processes, limits, resample)
    processes.close()


def int16_wav(samples: Sound, rate_hz: int, channels: int = 1) -> bytes:
    """A 16-bit WAV of floats."""
    data = (samples * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes()
    return wav(data, sample_rate_hz=rate_hz, channels=channels)


def flac(samples: Sound, rate_hz: int, layout: str = "mono") -> bytes:
    """A FLAC file of 16 bits."""
    return encode(
        samples, rate_hz, container="flac", codec="flac", layout=layout, sample_format="s16"
    )


def stereo(num_samples: int) -> Sound:
    """Two channels of noise: (2, num_samples)."""
    return np.stack([noise(num_samples, 1), noise(num_samples, 2)])


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


# Int16 and float32; longer than a window; whole parts, and a little more.
LONG = [
    (8_000, "s16", 10.0),
    (8_000, "s16", 3.0),
    (11_025, "s16", 5.3),
    (44_100, "s16", 11.9),
    (48_000, "flt", 2.0),
    (48_000, "flt", 7.77),
    (37_800, "flt", 1.5),
]


@pytest.mark.parametrize(("rate_hz", "kind", "seconds"), LONG)
def test_long_audio_is_resampled_on_the_way(
    ways: Ways, short_windows: Ways, rate_hz: int, kind: str, seconds: float
) -> None:
    """Part by part, without a seam, and into the spool as ever: as one call resamples it."""
    samples = noise(round(rate_hz * seconds))
    data = flac(samples, rate_hz) if kind == "s16" else float_wav(samples, rate_hz)
    spool = short_windows.processes.spool
    made = short_windows.own(data).whole
    assert made.sample_rate_hz == 16_000
    assert spool.used_bytes == 4 * len(made.samples)
    whole = ways.by_device(data)
    assert len(made.samples) == len(whole.samples)
    np.testing.assert_allclose(made.samples, whole.samples, atol=1e-6)
    one = short_windows.by_ffmpeg(data)
    assert abs(len(one.samples) - len(made.samples)) <= 1
    del made, one
    assert spool.used_bytes == 0


def test_up_to_a_window_nothing_is_spooled(short_windows: Ways) -> None:
    """Of what takes more than a memory at its own rate, what is made of it is in memory again."""
    data = float_wav(noise(48_000), 48_000)
    made = short_windows.own(data).whole  # a second: three memories of float32
    assert (made.sample_rate_hz, len(made.samples)) == (16_000, 16_000)
    assert short_windows.processes.spool.used_bytes == 0
    np.testing.assert_allclose(made.samples, resampler()(48_000, [noise(48_000)])[0], atol=1e-6)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000, NO_DIVISOR])
@pytest.mark.parametrize("make", [int16_wav, flac], ids=["WAV", "FLAC"])
def test_the_longest_that_is_allowed_is_the_same(
    short_windows: Ways, rate_hz: int, make: Callable[..., bytes]
) -> None:
    """By seconds, at whatever rate it comes: twelve are decoded, and a little more is not."""
    assert round(short_windows.own(make(noise(12 * rate_hz), rate_hz)).whole.duration_seconds) == 12
    longer = make(noise(12 * rate_hz + rate_hz // 50), rate_hz)
    for way in (short_windows.own, short_windows.by_ffmpeg):
        with pytest.raises(AudioTooLong, match="longer than 12 s"):
            way(longer)


def test_long_audio_waits_for_room(tmp_path: Path) -> None:
    """Where the spool is full, it begins anew when there is room: with a stream of its own."""
    limits = replace(ample_limits(tmp_path), window_seconds=1, spool_bytes=700_000)
    for ways in _ways(limits):
        data = flac(noise(44_100 * 6), 44_100)
        first, second = ways.own(data).whole, None
        assert ways.processes.spool.used_bytes == 4 * len(first.samples)
        expected = first.samples.copy()
        del first
        second = ways.own(data).whole
        assert np.array_equal(second.samples, expected)


def test_what_cannot_be_resampled_fails_its_job_alone(tmp_path: Path) -> None:
    """The process that waits for an answer gets one, and decodes the next file."""

    class Broken:
        def stream(self, sample_rate_hz: int) -> None:
            raise MemoryError("no more")

    limits = replace(ample_limits(tmp_path), window_seconds=1)
    processes = DecodeProcesses(1, limits)
    try:
        decode = Decode(processes, limits, resampler=Broken())  # type: ignore[arg-type]  # as it says
        pids = processes.pids
        with pytest.raises(JobError, match="resampling failed: MemoryError") as failed:
            decode(Fetched(Blob.from_bytes(flac(noise(44_100 * 6), 44_100))))
        assert failed.value.code == "internal"
        assert decode(Fetched(Blob.from_bytes(flac(noise(8_000), 8_000)))).whole
        assert processes.pids == pids
    finally:
        processes.close()


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_what_it_holds_is_counted_at_both_rates(ways: Ways, rate_hz: int) -> None:
    """Until it is resampled: what it is, and what it will be; then that alone."""
    recording = ways.own(int16_wav(noise(rate_hz), rate_hz))
    assert recording.held_bytes(10**9) == 2 * rate_hz + 4 * 16_000
    (resampled,) = ways.resample([recording])
    assert resampled.held_bytes(10**9) == 4 * 16_000
