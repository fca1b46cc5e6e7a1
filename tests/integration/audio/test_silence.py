"""Channels on which nothing is sent: silent, whatever their codec makes of nothing."""

import numpy as np
import pytest

from storage.objects.blob import Blob
from storage.wire.parts import Parts
from tests.support.audio_files import wav
from tests.support.own_rate import Ways
from worker.clip import Fetched, Recording
from worker.stages.normalize import Normalize

A_LAW, MU_LAW = 6, 7
# What a line sends that nobody speaks on, on either side of zero: A-law has no zero.
IDLE = {"A-law": (A_LAW, 0xD5), "A-law, below": (A_LAW, 0x55), "mu-law": (MU_LAW, 0xFF)}
NEXT_LOUDER = {A_LAW: 0xD4, MU_LAW: 0xF2}  # 24 of 32,768
SECONDS = 2


def file(form: int, sample_rate_hz: int, *channels: int) -> bytes:
    """A WAV file of channels that say the same all the time, but for a louder moment at 0."""
    one = np.tile(np.array(channels, np.uint8), (SECONDS * sample_rate_hz, 1))
    if len(channels) > 1:
        one[1_000:1_500, 0] = NEXT_LOUDER[form]
    data = one.tobytes()
    return wav(data, form=form, channels=len(channels), sample_rate_hz=sample_rate_hz, bits=8)


@pytest.fixture(params=["processes", "command line", "device"])
def way(request: pytest.FixtureRequest) -> str:
    """Each way to decode a file."""
    return str(request.param)


def decoded(ways: Ways, way: str, data: bytes, channel: str) -> Recording:
    """The recording at 16 kHz."""
    fetched = Fetched(Blob.from_bytes(data), Parts(channel=channel))
    if way == "device":
        return ways.resample([ways.leaving(fetched)])[0]
    return ways.decode.isolated(fetched) if way == "command line" else ways.decode(fetched)


@pytest.mark.parametrize("sample_rate_hz", [8_000, 11_025, 16_000])
@pytest.mark.parametrize("name", IDLE)
def test_a_channel_on_which_nothing_is_sent_is_silent(
    name: str, sample_rate_hz: int, way: str, ways: Ways
) -> None:
    """By itself, and beside one that is heard."""
    form, idle = IDLE[name]
    mono = decoded(ways, way, file(form, sample_rate_hz, idle), "mix")
    assert Normalize(30)(mono).top.clips[0].silent
    data = file(form, sample_rate_hz, idle, idle)
    for channel, silent in (("0", False), ("1", True)):
        one = decoded(ways, way, data, channel)
        assert Normalize(30)(one).top.clips[0].silent == silent
    each = Normalize(30)(decoded(ways, way, data, "each"))
    assert [view.clips[0].silent for view in each.channels] == [False, True]
