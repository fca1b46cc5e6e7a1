"""Long recordings that leave the decode stage at their own rate: in parts, and by the spool."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage.errors import AudioTooLong, JobError
from storage.objects.blob import Blob
from tests.support.audio_files import ample_limits
from tests.support.own_rate import Ways, flac, int16_wav, ways_of
from tests.support.resampling import NO_DIVISOR, noise, resampler
from tests.support.stages import float_wav
from worker.audio.processes import DecodeProcesses
from worker.clip import Fetched
from worker.stages.decode import Decode


@pytest.fixture(scope="module")
def short_windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """What is longer than a second goes to the spool; more than twelve are too long."""
    limits = ample_limits(tmp_path_factory.mktemp("spool"))
    yield from ways_of(replace(limits, window_seconds=1, max_audio_seconds=12))


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
    for ways in ways_of(limits):
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
