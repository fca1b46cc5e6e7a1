"""Formats that few have, cut, damaged and joined: what their own headers let one tell."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from tests.support.audio_files import encode, tone, video
from tests.support.handmade_audio import dsf, int16, mpc7, shorten, sphere
from tests.unit.audio.test_wholeness import DAMAGED, TRAILING_DATA, TRUNCATED, decode
from worker.audio.musepack import num_samples

SECONDS = 4.0


def made(container: str, codec: str, sample_rate_hz: int) -> bytes:
    """A tone."""
    return encode(tone(SECONDS, sample_rate_hz), sample_rate_hz, container=container, codec=codec)


def shortened() -> bytes:
    """A tone in Shorten, in a SPHERE file."""
    stream = shorten(np.frombuffer(int16(tone(SECONDS)[None]), "<i2"))
    count = f"-i {round(SECONDS * 16_000)}"
    coding = "-s26 pcm,embedded-shorten-v2.00"
    return sphere(stream, 16_000, sample_coding=coding, sample_count=count)


RARE: dict[str, Callable[[], bytes]] = {
    "wv": partial(made, "wv", "wavpack", 192_000),
    "tta": partial(made, "tta", "tta", 16_000),
    "nistsphere": lambda: sphere(int16(tone(4.0)[None]), 16_000, sample_count="-i 64000"),
    "shorten in nistsphere": shortened,
    "flv": partial(made, "flv", "aac", 44_100),
    "mp3 in flv": partial(made, "flv", "libmp3lame", 44_100),
    "dsf": lambda: dsf(tone(SECONDS, 352_800)[None]),
    "voc": partial(made, "voc", "pcm_u8", 8_000),
    "mpc": lambda: mpc7(153),
}


@cache
def whole(name: str) -> bytes:
    """One of these files, made once."""
    return RARE[name]()


# What a hole costs: nothing, for noise is sound there or goes unseen; what follows; or itself.
HOLES = {
    **dict.fromkeys(("nistsphere", "dsf"), ()),
    **dict.fromkeys(("voc", "mpc", "mp3 in flv", "shorten in nistsphere"), (TRUNCATED,)),
    **dict.fromkeys(("tta", "flv", "wv"), (DAMAGED,)),
}
SECOND_IS_PASSED_OVER = ("mpc", "shorten in nistsphere")  # no header tells where they end


@pytest.mark.parametrize("name", RARE)
def test_a_whole_file_is_not_doubted(name: str) -> None:
    """What an encoder wrote has all its samples, and no warning."""
    seconds, warnings = decode(whole(name))
    assert seconds == pytest.approx(SECONDS, abs=0.1)
    assert warnings == ()


@pytest.mark.parametrize("name", RARE)
@pytest.mark.parametrize("part", [0.5, 0.75, 0.89])
def test_a_cut_file_is_truncated(name: str, part: float) -> None:
    """By the count of samples in its header, or the length of what holds them."""
    data = whole(name)
    seconds, warnings = decode(data[: int(part * len(data))])
    assert warnings == (TRUNCATED,)
    assert 0 < seconds < SECONDS - 0.1


@pytest.mark.parametrize("name", RARE)
def test_a_hole_in_the_middle(name: str) -> None:
    """Noise over a tenth of a file."""
    data = bytearray(whole(name))
    middle, length = len(data) // 2, len(data) // 10
    data[middle : middle + length] = np.random.default_rng(0).bytes(length)
    seconds, warnings = decode(bytes(data))
    assert warnings == HOLES[name]
    assert seconds > 1.0


@pytest.mark.parametrize("name", sorted(RARE.keys() - set(SECOND_IS_PASSED_OVER)))
def test_of_two_files_in_one_all_is_decoded_or_the_second_is_told_of(name: str) -> None:
    """Also where tags stand between them."""
    data = whole(name)
    seconds, warnings = decode(data + data)
    if warnings == (TRAILING_DATA,):
        assert seconds == pytest.approx(SECONDS, abs=0.1)
    else:
        assert (warnings, seconds > 2 * SECONDS - 0.1) == ((), True)


def test_sound_in_a_flash_video_is_as_long_as_it_is() -> None:
    """The length in the metadata is that of the pictures."""
    seconds, warnings = decode(video(SECONDS, container="flv", picture_seconds=9))
    assert seconds == pytest.approx(SECONDS, abs=0.1)
    assert warnings == ()


@pytest.mark.parametrize("said", [0.0, float("nan"), float("inf"), -1.0])
def test_a_live_flash_recording_states_no_length(said: float) -> None:
    """Whatever stands in its metadata then."""
    data = RARE["flv"]()
    at = data.index(b"duration\0") + len(b"duration\0")
    live = data[:at] + np.array(said, ">f8").tobytes() + data[at + 8 :]
    assert decode(live)[1] == ()


MUSEPACK = (Path(__file__).parents[2] / "data" / "formats" / "speech.mpc").read_bytes()
# Of its stream header: how many samples there are, 38,400.
COUNT = slice(12, 15)


@pytest.mark.parametrize("place", [0.3, 0.7])
def test_a_hole_in_musepack_of_version_8(place: float) -> None:
    """What follows in its block is lost."""
    data = bytearray(MUSEPACK)
    middle, length = int(place * len(data)), len(data) // 10
    data[middle : middle + length] = np.random.default_rng(1).bytes(length)
    seconds, warnings = decode(bytes(data))
    assert seconds < 0.9
    assert warnings == (TRUNCATED,)


def test_musepack_of_version_8_that_promises_more() -> None:
    """FFmpeg counts its blocks alone, of up to two seconds and more."""
    assert decode(MUSEPACK)[1] == ()
    assert MUSEPACK[COUNT] == bytes([0x82, 0xAC, 0x00])
    more = bytearray(MUSEPACK)
    more[COUNT] = bytes([0x84, 0xD8, 0x00])  # twice as many
    assert decode(bytes(more))[1] == (TRUNCATED,)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (MUSEPACK, 38_400),
        (MUSEPACK[:13], None),
        (MUSEPACK[:12] + b"\xff" * 40, None),
        (MUSEPACK[:12] + b"\0" * 40, None),
        (b"MPCKRG" + MUSEPACK[6:], None),
        (b"", None),
    ],
)
def test_samples_that_musepack_of_version_8_states(
    data: bytes, count: int | None, tmp_path: Path
) -> None:
    """Of a header that is there, and of ones that are not, are cut, or have no end."""
    file = tmp_path / "a.mpc"
    file.write_bytes(data)
    with file.open("rb") as opened:
        assert num_samples(opened.fileno()) == count
