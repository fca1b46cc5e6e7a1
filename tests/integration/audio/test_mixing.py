"""The mix: every channel is in it, by whichever way a file is decoded."""

from collections.abc import Callable

import numpy as np
import pytest

from storage.objects.blob import Blob
from tests.support.audio_files import pcm16, tone, wav
from tests.support.own_rate import Ways
from worker.audio.commandline import decode_isolated
from worker.audio.limits import AudioLimits
from worker.clip import Waveform

RATE_HZ = 8_000
AMPLITUDE = 0.4
EXTENSIBLE = 0xFFFE

# By the mask of a WAV file: how many channels, and how much of each is in the mix. 0 is no mask.
SUBWOOFER = 0.0
BY_PLACE: dict[int, list[float]] = {
    0x3: [0.5, 0.5],  # stereo
    0xB: [0.5, 0.5, SUBWOOFER],  # 2.1
    0x33: [0.2929, 0.2929, 0.2071, 0.2071],  # quad
    0x3F: [0.2071, 0.2071, 0.2929, SUBWOOFER, 0.1464, 0.1464],  # 5.1
    0x63F: [0.1598, 0.1598, 0.2260, SUBWOOFER, 0.1130, 0.1130, 0.1130, 0.1130],  # 7.1
}
ALIKE: dict[int, int] = {
    0x5: 2,  # left and centre: no stereo
    0x30: 2,  # behind
    0x600: 2,  # at the sides
    0x9: 2,  # a subwoofer beside the left
    0x5033: 6,  # quad, and two of the ceiling: without a name
    0x2D03F: 10,  # 5.1.4, of which FFmpeg leaves out two of the ceiling
}
FILES = {
    **{f"plain, {n} channels": (1, 0, [1 / n] * n) for n in range(2, 17)},
    **{f"without a mask, {n} channels": (EXTENSIBLE, 0, [1 / n] * n) for n in range(2, 17)},
    **{f"mask {mask:#x}": (EXTENSIBLE, mask, parts) for mask, parts in BY_PLACE.items()},
    **{f"mask {mask:#x}": (EXTENSIBLE, mask, [1 / n] * n) for mask, n in ALIKE.items()},
}


@pytest.fixture(params=["processes", "command line", "device"])
def decode(
    request: pytest.FixtureRequest, ways: Ways, limits: AudioLimits
) -> Callable[[bytes], Waveform]:
    """Each way to decode a file."""
    if request.param == "command line":
        return lambda data: decode_isolated(Blob.from_bytes(data), limits)[0]
    return ways.by_ffmpeg if request.param == "processes" else ways.by_device


def pitch(channel: int) -> int:
    """What sounds in a channel, and in no other."""
    return 200 + 150 * channel


@pytest.mark.parametrize("name", FILES)
def test_each_channel_is_heard_in_the_mix(name: str, decode: Callable[[bytes], Waveform]) -> None:
    """In its part: by its place where the file says it, else all alike."""
    form, mask, parts = FILES[name]
    channels = len(parts)
    planes = [tone(1, RATE_HZ, hz=pitch(c), amplitude=AMPLITUDE) for c in range(channels)]
    data = wav(
        pcm16(np.stack(planes, axis=1)),
        form=form,
        channels=channels,
        sample_rate_hz=RATE_HZ,
        mask=mask,
    )
    mixed = decode(data)
    assert mixed.warnings == ()
    spectrum = np.abs(np.fft.rfft(mixed.floats())) / len(mixed.samples) * 2 / AMPLITUDE
    heard = [float(spectrum[pitch(channel)]) for channel in range(channels)]
    assert heard == pytest.approx(parts, rel=0.02, abs=0.002)
