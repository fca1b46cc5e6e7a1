"""ffmpeg's own program, isolated, gives what a decode process gives, or is stopped."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from storage.errors import AudioTooLong, JobError, NotAudio, StageTimeout
from storage.objects.blob import Blob
from storage.objects.local_files import is_audio
from tests.support.audio_files import (
    encode,
    id3_with_cover,
    mp3,
    pcm16,
    silent_flac,
    tone,
    tracks,
    video,
    vorbis,
    wav,
    wma,
)
from tests.support.audio_formats import FORMATS, SECONDS
from tests.support.handmade_audio import speech
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.audio.processes import DecodeProcesses
from worker.clip import Waveform

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


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_surround_is_mixed_alike_by_either_way(
    codec: str, processes: DecodeProcesses, limits: AudioLimits
) -> None:
    """Also where the file says how loud its centre and surround are to be mixed."""
    data = encode(speech(48_000, 6), 48_000, container=codec, codec=codec, layout="5.1")
    (ordinary,) = processes.decode(Blob.from_bytes(data))
    (isolated,) = decode_isolated(Blob.from_bytes(data), limits)
    np.testing.assert_allclose(isolated.floats(), ordinary.floats(), atol=1e-5)


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
