"""Peaks and previews of real files, by either way to decode them."""

import io
import struct
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from storage.errors import NotAudio
from storage.objects.blob import Blob
from storage.wire.messages import Want
from storage.wire.parts import Parts, SegmentAsked
from tests.support.audio_files import encode, mp3, tone, vorbis
from tests.support.stages import BOTH, float_wav
from worker.audio.channel import Channel
from worker.audio.limits import AudioLimits
from worker.audio.preview import FRAME_SAMPLES, preview_bytes
from worker.audio.processes import DecodeProcesses
from worker.audio.protocol import Message, Render
from worker.clip import Fetched, Recording, Renditions
from worker.stages.decode import Decode
from worker.stages.normalize import Normalize

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
DecodeFor = Callable[..., tuple[Recording, Renditions]]


@pytest.fixture(scope="module")
def processes(spooling: AudioLimits) -> Iterator[DecodeProcesses]:
    """One decode process."""
    pool = DecodeProcesses(1, spooling)
    yield pool
    pool.close()


@pytest.fixture(params=["processes", "command line"])
def decode(
    request: pytest.FixtureRequest, processes: DecodeProcesses, spooling: AudioLimits
) -> DecodeFor:
    """Both ways to decode a file, and what is made of it."""
    stage = Decode(processes, spooling)
    way = stage if request.param == "processes" else stage.isolated

    def decoded(
        data: bytes, channel: str = "mix", *, segments: tuple[SegmentAsked, ...] | None = None
    ) -> tuple[Recording, Renditions]:
        renditions = Renditions(BOTH)
        parts = Parts(channel=channel, segments=segments)
        recording = way(Fetched(Blob.from_bytes(data), parts, renditions))
        assert recording.renditions is renditions
        return recording, renditions

    return decoded


def lanes_of(recording: Recording) -> list[NDArray[np.float32]]:
    """What is shown of it: each channel, or the one lane that there is."""
    return [lane.floats() for lane in recording.channels or (recording.whole,)]


def require_exact_peaks(data: bytes, lanes: list[NDArray[np.float32]]) -> None:
    """The extremes of each bin of each lane, in 8 bits, by numpy."""
    version, flags, rate_hz, size, bins, channels = struct.unpack("<iIiiII", data[:24])
    assert (version, flags, rate_hz, channels) == (2, 1, 16_000, len(lanes))
    found = np.frombuffer(data, np.int8, offset=24).reshape(bins, channels, 2)
    for number, lane in enumerate(lanes):
        rounded = np.clip(np.rint(lane * 128), -128, 127).astype(np.int8)
        each = np.pad(rounded, (0, -len(rounded) % size), mode="edge").reshape(-1, size)
        np.testing.assert_array_equal(found[:, number, 0], each.min(axis=1))
        np.testing.assert_array_equal(found[:, number, 1], each.max(axis=1))


def number_of_waveforms(peaks: bytes) -> int:
    """By their header."""
    return int(struct.unpack_from("<I", peaks, 20)[0])


def heard(preview: bytes | memoryview) -> NDArray[np.float32]:
    """What a player makes of it: float32 (channels, num_samples)."""
    with av.open(io.BytesIO(bytes(preview)), "r") as container:
        frames = [frame.to_ndarray() for frame in container.decode(container.streams.audio[0])]
    return np.concatenate(frames, axis=1)


def loudness(signal: NDArray[np.float32], hz: float) -> float:
    """How much of a tone is in it, 1 for the whole amplitude."""
    turns = np.exp(-2j * np.pi * hz * np.arange(len(signal)) / 16_000)
    return float(2 * np.abs(signal @ turns) / len(signal))


@pytest.mark.parametrize("seconds", [0.5, 2.5], ids=["in memory", "spooled"])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_peaks_are_exact_for_every_channel(
    decode: DecodeFor, channels: int, seconds: float
) -> None:
    """By either way, whatever the rate: they are those of the samples that are classified."""
    planes = [tone(seconds, 44_100, hz=100 + 70 * k, amplitude=0.1 * k) for k in range(channels)]
    data = encode(planes, 44_100, container="wav", codec="pcm_s16le", layout=LAYOUTS[channels])
    for channel in ("each", "mix", str(channels - 1)):
        recording, made = decode(data, channel)
        require_exact_peaks(made.peaks, lanes_of(recording))
        assert made.held_bytes < 200_000


@pytest.mark.parametrize("asked", ["mix", "1"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_segments_of_other_channels_show_all_of_them(
    decode: DecodeFor, channels: int, asked: str
) -> None:
    """As `channel=each` does; segments of the channel that is asked for show that one."""
    planes = [tone(0.5, 44_100, hz=100 + 70 * k, amplitude=0.1 + 0.1 * k) for k in range(channels)]
    data = encode(planes, 44_100, container="wav", codec="pcm_s16le", layout=LAYOUTS[channels])
    segments = (SegmentAsked(0, 0.2, channel=0),)
    if channels > 1:
        own = (SegmentAsked(0, 0.2, channel=int(asked)),) if asked != "mix" else segments[:0]
        _, one = decode(data, asked, segments=own)
        _, alone = decode(data, asked)
        assert (one.peaks, one.preview) == (alone.peaks, alone.preview)
        assert number_of_waveforms(one.peaks) == len(heard(one.preview)) == 1
    asked = asked if channels > 1 else "mix"
    _, made = decode(data, asked, segments=segments)
    _, each = decode(data, "each")
    assert (made.peaks, made.preview) == (each.peaks, each.preview)
    assert number_of_waveforms(made.peaks) == channels
    assert len(heard(made.preview)) == (2 if channels == 2 else 1)


FILES = {
    "read directly": float_wav(tone(0.7)),
    "beyond full scale": float_wav(3 * tone(0.7)),
    "one frame": float_wav(tone(0.025)),
    "mp3": mp3(0.5),
    "spooled": mp3(3.3),
    "joined": vorbis(1.2) + vorbis(0.9),
    "joined mp3": mp3(1.2) + mp3(0.9, 22_050),
    "cut off": mp3(3)[:-9_000],
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
def test_a_preview_is_as_long_as_the_audio(decode: DecodeFor, data: bytes) -> None:
    """To the sample, and nothing in it is early or late."""
    recording, made = decode(data)
    samples = recording.whole.floats()
    require_exact_peaks(made.peaks, [samples])
    (mono,) = heard(made.preview)
    assert len(mono) == len(samples)
    assert len(made.preview) == preview_bytes(len(samples), 1)
    assert made.preview_bytes in (0, len(made.preview))
    if len(samples) > 8_000:
        middle = slice(2_000, len(samples) - 2_000)
        shifts = range(-10, 11)
        alike = [np.corrcoef(samples[middle], np.roll(mono, at)[middle])[0, 1] for at in shifts]
        assert shifts[int(np.argmax(alike))] == 0


@pytest.mark.parametrize("seconds", [0.5, 2.5], ids=["in memory", "spooled"])
def test_the_sides_of_a_call_stay_apart(decode: DecodeFor, seconds: float) -> None:
    """Left is channel 0 and right is channel 1, where each was asked for; else it is one."""
    planes = [tone(seconds, hz=300), tone(seconds, hz=1_000)]
    data = encode(planes, 16_000, container="wav", codec="pcm_s16le", layout="stereo")
    left, right = heard(decode(data, "each")[1].preview)
    assert loudness(left, 300) == pytest.approx(0.5, abs=0.03)
    assert loudness(right, 1_000) == pytest.approx(0.5, abs=0.03)
    assert max(loudness(left, 1_000), loudness(right, 300)) < 0.01
    (mix,) = heard(decode(data)[1].preview)
    assert loudness(mix, 300) == pytest.approx(0.25, abs=0.03)
    (one,) = heard(decode(data, "1")[1].preview)
    assert loudness(one, 300) < 0.01


def test_more_channels_are_heard_together(decode: DecodeFor) -> None:
    """No browser puts eight speakers apart."""
    planes = np.stack([tone(0.5, hz=200 + 100 * k) for k in range(6)])
    data = encode(planes, 16_000, container="wav", codec="pcm_s16le", layout="5.1")
    recording, made = decode(data, "each")
    (mono,) = heard(made.preview)
    assert len(mono) == len(recording.whole.samples)
    assert np.corrcoef(mono, recording.whole.floats())[0, 1] > 0.99


@pytest.mark.parametrize("channel", ["mix", "each"])
def test_a_moment_of_a_preview_is_found_by_counting(decode: DecodeFor, channel: str) -> None:
    """Each frame has one size and an MPEG header: so a player goes anywhere without reading."""
    planes = [tone(3), tone(3, hz=700)]
    data = encode(planes, 16_000, container="wav", codec="pcm_s16le", layout="stereo")
    preview = bytes(decode(data, channel)[1].preview)
    size = 180 if channel == "mix" else 288
    assert len(preview) % size == 0
    frames = [preview[at : at + size] for at in range(0, len(preview), size)]
    assert {frame[:3] for frame in frames} == {frames[0][:3]}
    tag = frames[0].index(b"Info")
    _, told_frames, told_bytes = struct.unpack(">III", frames[0][tag + 4 : tag + 16])
    assert (told_frames, told_bytes) == (len(frames) - 1, len(preview))
    at = frames[0].index(b"LAME") + 21
    delays = int.from_bytes(frames[0][at : at + 3], "big")
    trimmed = (delays >> 12) + (delays & 0xFFF)
    assert told_frames * FRAME_SAMPLES - trimmed == 3 * 16_000


def test_what_is_no_number_is_no_audio_as_ever(decode: DecodeFor) -> None:
    """Nothing that a float may hold makes a process crash, and the job fails as without."""
    samples = tone(0.5)
    for value in (np.nan, np.inf, -np.inf, 1e38, 1e-42):
        samples[100:3_000] = value
        _, made = decode(float_wav(samples))
        assert made.peaks
        assert made.preview
    samples[100:3_000] = np.nan
    with pytest.raises(NotAudio):
        Normalize(1.0)(decode(float_wav(samples))[0])


def test_who_wants_nothing_pays_nothing(
    processes: DecodeProcesses, spooling: AudioLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is asked for what is wanted alone; and the samples are the same."""
    sent: list[Message] = []
    send = Channel.send

    def noted(self: Channel, message: Message, *arguments: Any) -> None:
        sent.append(message)
        send(self, message, *arguments)

    monkeypatch.setattr(Channel, "send", noted)
    stage = Decode(processes, spooling)
    plain = stage(Fetched(Blob.from_bytes(mp3(2.5))))
    assert plain.renditions is None
    assert not [order for order in sent if isinstance(order, Render)]
    for wanted in (Want.PEAKS, Want.PREVIEW):
        sent.clear()
        made = Renditions(frozenset({wanted}))
        recording = stage(Fetched(Blob.from_bytes(mp3(2.5)), renditions=made))
        assert [order.what for order in sent if isinstance(order, Render)] == [wanted]
        assert bool(made.peaks) is (wanted is Want.PEAKS)
        assert bool(made.preview) is (wanted is Want.PREVIEW)
        np.testing.assert_array_equal(recording.whole.floats(), plain.whole.floats())
