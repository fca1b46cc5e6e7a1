"""The channels of a file, by either way to decode: each is what a mono file of it gives."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import InvalidJob, JobError
from storage.objects.blob import Blob
from storage.wire.parts import WHOLE, Parts, SegmentAsked
from tests.support.audio_files import ample_limits, encode, mp3, tone
from tests.support.stages import float_wav
from tests.unit.model.parity import written
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.audio.room import Spool
from worker.clip import Fetched, Pcm, Recording
from worker.stages.decode import Decode
from worker.stages.normalize import Normalize

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
DecodeFor = Callable[..., Recording]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decode]:
    """The decode stage, whose windows are a second long: what is longer goes to the spool."""
    limits = replace(ample_limits(tmp_path_factory.mktemp("spool")), window_seconds=1)
    processes = DecodeProcesses(1, limits)
    yield Decode(processes, limits)
    processes.close()


@pytest.fixture(params=["processes", "command line"])
def decode(request: pytest.FixtureRequest, stage: Decode) -> DecodeFor:
    """Both ways to decode a file for parts."""
    way = stage if request.param == "processes" else stage.isolated
    return lambda data, **parts: way(Fetched(Blob.from_bytes(data), Parts(**parts)))


@pytest.fixture(scope="module")
def mono() -> dict[tuple[object, ...], Pcm]:
    """What mono files have given, by how and of what: the same tones whatever lies beside them."""
    return {}


def planes(channels: int, seconds: float, rate_hz: int) -> NDArray[np.float32]:
    """Another tone in each channel."""
    return np.stack(
        [tone(seconds, rate_hz, hz=200.0 + 150 * k, amplitude=0.4) for k in range(channels)]
    )


def wav_of(samples: NDArray[np.float32], rate_hz: int, codec: str = "pcm_s16le") -> bytes:
    """A WAV file of (channels, samples)."""
    layout = LAYOUTS[len(samples)]
    return encode(samples, rate_hz, container="wav", codec=codec, layout=layout)


@pytest.mark.parametrize("seconds", [0.5, 2.5], ids=["in memory", "spooled"])
@pytest.mark.parametrize("channels", [2, 6, 8])
@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_each_channel_is_its_mono_file(
    decode: DecodeFor,
    mono: dict[tuple[object, ...], Pcm],
    request: pytest.FixtureRequest,
    channels: int,
    rate_hz: int,
    seconds: float,
) -> None:
    """To the bit, in one decode; and the mix is what it is without channels."""
    samples = planes(channels, seconds, rate_hz)
    data = wav_of(samples, rate_hz)
    recording = decode(data, channel="each")
    assert len(recording.channels) == channels
    np.testing.assert_array_equal(recording.whole.floats(), decode(data).whole.floats())
    for channel, lane in enumerate(recording.channels):
        which = (request.node.callspec.params["decode"], rate_hz, seconds, channel)
        if which not in mono:
            mono[which] = decode(wav_of(samples[channel : channel + 1], rate_hz)).whole.samples
        np.testing.assert_array_equal(lane.floats(), mono[which])
    last = decode(data, channel=str(channels - 1))
    np.testing.assert_array_equal(last.whole.floats(), recording.channels[-1].floats())
    assert last.channels == ()


@pytest.mark.parametrize(
    "data",
    [float_wav(tone(0.5)), float_wav(tone(0.5, 8_000), 8_000), mp3(0.5), mp3(2.5)],
    ids=["read directly", "wav", "mp3", "spooled"],
)
def test_mono_is_its_one_channel(decode: DecodeFor, data: bytes) -> None:
    """And decoded once."""
    recording = decode(data, channel="each")
    (channel,) = recording.channels
    assert channel is recording.whole
    np.testing.assert_array_equal(channel.floats(), decode(data).whole.floats())
    first = decode(data, channel="0")
    np.testing.assert_array_equal(first.whole.floats(), channel.floats())
    with pytest.raises(InvalidJob, match=r"has 1 channel, .* no channel 1"):
        decode(data, channel="1")


def test_a_channel_that_the_file_lacks_is_named(decode: DecodeFor) -> None:
    """With how many there are."""
    data = wav_of(planes(2, 0.5, 8_000), 8_000)
    with pytest.raises(InvalidJob, match=r"has 2 channels, .* no channel 2"):
        decode(data, channel="2")


def test_segments_may_name_channels_besides_that_of_the_job(decode: DecodeFor) -> None:
    """What they need is decoded with it, at once."""
    samples = planes(2, 0.5, 44_100)
    data = wav_of(samples, 44_100)
    segments = (SegmentAsked(0, 0.2, channel=0),)
    recording = decode(data, channel="1", segments=segments)
    each = decode(data, channel="each")
    np.testing.assert_array_equal(recording.whole.floats(), each.channels[1].floats())
    np.testing.assert_array_equal(recording.channels[0].floats(), each.channels[0].floats())
    mono = wav_of(samples[:1], 44_100)
    with pytest.raises(InvalidJob, match=r"has 1 channel, .* no channel 1"):
        decode(mono, channel="1", segments=segments)


STEREO = mp3(1.5, 44_100, layout="stereo")


@pytest.mark.parametrize("data", [mp3(1.5) + STEREO, STEREO + mp3(1.5)], ids=["first", "last"])
def test_mono_counts_for_every_channel(stage: Decode, data: bytes) -> None:
    """Where a file has mono and stereo, every channel is as long as the mix."""

    def decoded(channel: str) -> Recording:
        return stage(Fetched(Blob.from_bytes(data), Parts(channel=channel)))

    each = decoded("each")
    assert len(each.channels) == 2
    np.testing.assert_array_equal(each.whole.floats(), decoded("mix").whole.floats())
    for number, lane in enumerate(each.channels):
        np.testing.assert_array_equal(lane.floats(), decoded(str(number)).whole.floats())
        levels = [np.abs(part).max() for part in np.array_split(lane.floats(), 6)]
        assert min(levels) == pytest.approx(0.5, abs=0.05)
    with pytest.raises(InvalidJob, match="has 2 channels"):
        decoded("2")


def test_other_changes_of_the_channels_are_refused(stage: Decode) -> None:
    """Which would be which is not to be known; the mix is."""
    both = [
        encode(planes(n, 0.5, 44_100), 44_100, container="adts", codec="aac", layout=LAYOUTS[n])
        for n in (2, 6)
    ]
    data = b"".join(both)
    assert stage(Fetched(Blob.from_bytes(data))).whole.duration_seconds > 0.9
    with pytest.raises(InvalidJob, match="has 2 channels and later 6"):
        stage(Fetched(Blob.from_bytes(data), Parts(channel="each")))


def test_too_long_is_too_long_however_many_channels(tmp_path: Path) -> None:
    """The limit is of seconds, and long audio takes room in the spool for each lane."""
    limits: AudioLimits = replace(ample_limits(tmp_path), window_seconds=1, max_audio_seconds=3)
    spool = Spool(tmp_path, 1 << 30)
    processes = DecodeProcesses(1, limits, spool)
    try:
        stage = Decode(processes, limits)
        for way in (stage, stage.isolated):
            for seconds, fits in ((2.9, True), (3.1, False)):
                data = wav_of(planes(6, seconds, 8_000), 8_000)
                recording: Recording | JobError
                try:
                    recording = way(Fetched(Blob.from_bytes(data), Parts(channel="each")))
                    lengths = [len(lane.floats()) for lane in recording.channels]
                    assert lengths == [round(16_000 * seconds)] * 6
                    del recording
                    assert fits
                except JobError as error:
                    assert (error.code, fits) == ("audio_too_long", False)
        assert spool.used_bytes == 0
    finally:
        processes.close()


def resident_bytes() -> int:
    """Pages of mapped files that count as ours now."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssFile:")[2].split()[0])


def test_hours_of_audio_are_not_held_in_memory(tmp_path: Path) -> None:
    """However often a mapped recording is read, by whom: the statistics, speech, or the tape."""
    limits: AudioLimits = replace(ample_limits(tmp_path), window_seconds=1)
    processes = DecodeProcesses(1, limits)
    try:
        stage = Decode(processes, limits, lambda samples, forget: [(0, 16_000)])
        stage(Fetched(Blob.from_bytes(mp3(2)), Parts(speech=True)))
        libraries = resident_bytes()
        data = wav_of(np.tile(planes(2, 10, 8_000), (1, 60)), 8_000)  # 115 MB of samples
        recording = stage(Fetched(Blob.from_bytes(data), Parts(channel="each", speech=True)))
        turns: tuple[list[tuple[int, int]], ...] = ([(0, 16_000)], [(16_000, 64_000)], [])
        views = Normalize(30)(replace(recording, speech=turns))
        assert resident_bytes() - libraries < 32 * 1024**2
        most, before = 0, resident_bytes()
        for clip in [*views.clips, *Normalize(30)(replace(recording, parts=WHOLE)).clips]:
            for window in clip.windows:
                written(clip, window)
                most = max(most, resident_bytes() - before)
        assert most < 32 * 1024**2
    finally:
        processes.close()
