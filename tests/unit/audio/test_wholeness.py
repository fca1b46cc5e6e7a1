"""Files that are cut, damaged, joined or wrong about themselves: what comes of them."""

import struct
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest

from storage.errors import NotAudio
from storage.objects.blob import Blob
from tests.support.audio_files import (
    encode,
    id3_with_cover,
    m4a,
    mp3,
    tone,
    tracks,
    video,
    vorbis,
    wav,
    wma,
)
from tests.support.ogg_files import pages, sealed, with_serial, without_end
from worker.audio.libav import Decoder
from worker.warning import AudioWarning

TRUNCATED, DAMAGED = AudioWarning.TRUNCATED, AudioWarning.DAMAGED
TRAILING_DATA = AudioWarning.TRAILING_DATA
RATE_HZ = 16_000


def decode(data: bytes) -> tuple[float, tuple[AudioWarning, ...]]:
    """Seconds of a file, and its warnings."""
    with Blob.from_bytes(data) as blob:
        decoder = Decoder(blob.fd, blob.size, sample_rate_hz=RATE_HZ)
        num_samples = sum(len(chunk) // 4 for chunk in decoder.chunks())
    return num_samples / RATE_HZ, decoder.warnings


def made(
    container: str,
    codec: str,
    sample_rate_hz: int = 48_000,
    *,
    seconds: float = 4.0,
    **options: str,
) -> bytes:
    """A tone in any format."""
    samples = tone(seconds, sample_rate_hz)
    return encode(
        samples, sample_rate_hz, container=container, codec=codec, container_options=options
    )


opus = partial(made, "ogg", "libopus")
ogg_flac = partial(made, "ogg", "flac")
flac = partial(made, "flac", "flac", 16_000)
fragmented = partial(
    made, "mp4", "aac", 44_100, movflags="frag_keyframe+empty_moov", frag_duration="1000000"
)

# Every container whose own words say when it is cut short.
STATE_THEIR_END: dict[str, Callable[[], bytes]] = {
    "wav": partial(made, "wav", "pcm_s16le", 8_000),
    "w64": partial(made, "w64", "pcm_s16le", 8_000),
    "aiff": partial(made, "aiff", "pcm_s16be", 8_000),
    "au": partial(made, "au", "pcm_s16be", 8_000),
    "caf": partial(made, "caf", "pcm_s16be", 8_000),
    "flac": flac,
    "mp3": partial(mp3, 4.0),
    "mp3 8 kHz": partial(mp3, 4.0, 8_000),
    "mp3 with cover": lambda: id3_with_cover(b"title", bytes(9_000)) + mp3(4.0),
    "opus": opus,
    "vorbis": partial(vorbis, 4.0, 44_100),
    "flac in ogg": ogg_flac,
    "m4a": partial(m4a, 4.0, index_first=True),
    "m4a 8 kHz": partial(m4a, 4.0, 8_000, index_first=True),
    "mp4 in fragments": fragmented,
    "webm": partial(made, "webm", "libopus"),
    "mka": partial(made, "matroska", "aac", 44_100),
    "wma": partial(wma, 4.0),
    "avi": partial(made, "avi", "libmp3lame", 44_100),
    "mkv": partial(video, 4.0),
}
# Those that go on to the end of the file, or say nothing of their length.
STATE_NOTHING: dict[str, Callable[[], bytes]] = {
    "aac": partial(made, "adts", "aac", 44_100),
    "ac3": partial(made, "ac3", "ac3"),
    "amr": partial(made, "amr", "libopencore_amrnb", 8_000),
    "mpegts": partial(made, "mpegts", "mp2", 44_100),
}
ALL = {**STATE_THEIR_END, **STATE_NOTHING}
NOISE_IS_SOUND = ("wav", "w64", "aiff", "au", "caf")  # what they hold is never wrong


@cache
def whole(name: str) -> bytes:
    """One of these files, made once."""
    return ALL[name]()


@pytest.mark.parametrize("name", ALL)
def test_a_whole_file_is_not_doubted(name: str) -> None:
    """What an encoder wrote has all its samples, and no warning."""
    seconds, warnings = decode(whole(name))
    assert seconds == pytest.approx(4.0, abs=0.1)
    assert warnings == ()


@pytest.mark.parametrize("name", STATE_THEIR_END)
@pytest.mark.parametrize("part", [0.5, 0.75, 0.89])
def test_a_cut_file_is_truncated(name: str, part: float) -> None:
    """What was decoded is given, with the one warning that its end is missing."""
    data = whole(name)
    seconds, warnings = decode(data[: int(part * len(data))])
    assert warnings == (TRUNCATED,)
    assert 0 < seconds < 3.9


@pytest.mark.parametrize("name", sorted(ALL.keys() - set(NOISE_IS_SOUND)))
def test_a_hole_in_the_middle_is_damage(name: str) -> None:
    """Noise over a tenth of a file costs what it hits, and at most its page or fragment."""
    data = bytearray(whole(name))
    middle, length = len(data) // 2, len(data) // 10
    data[middle : middle + length] = np.random.default_rng(0).bytes(length)
    seconds, warnings = decode(bytes(data))
    assert warnings == (DAMAGED,)
    assert seconds > 1.0


@pytest.mark.parametrize("name", ALL)
def test_of_two_files_in_one_all_is_decoded_or_the_second_is_told_of(name: str) -> None:
    """A joint is no damage, whatever it costs a decoder."""
    data = whole(name)
    seconds, warnings = decode(data + data)
    if warnings == (TRAILING_DATA,):
        assert seconds == pytest.approx(4.0, abs=0.1)
    else:
        assert warnings == ()
        assert seconds > 7.0 if name == "mp4 in fragments" else seconds > 7.9


def test_a_joint_of_mp3_files_of_two_rates_and_tags_is_no_damage() -> None:
    """The count in the first frame is that of the first file, and tags are no frames."""
    tagged = id3_with_cover(b"title", bytes(500))
    for joint in (b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(200)):
        seconds, warnings = decode(mp3(3.0, 24_000) + joint + tagged + mp3(2.0, 44_100))
        assert warnings == ()
        assert seconds == pytest.approx(5.0, abs=0.2)


CHAINS: dict[str, tuple[Callable[[], bytes], Callable[[], bytes]]] = {
    "opus, mono and stereo": (
        opus,
        lambda: encode(
            np.tile(tone(3.0, 48_000), (2, 1)), 48_000, container="ogg", codec="libopus",
            layout="stereo",
        ),
    ),
    "vorbis of two rates": (partial(vorbis, 4.0), partial(vorbis, 3.0, 44_100)),
    "vorbis, mono and stereo": (partial(vorbis, 4.0), partial(vorbis, 3.0, channels=2)),
    "flac of two rates": (
        partial(ogg_flac, 16_000), partial(made, "ogg", "flac", 48_000, seconds=3.0),
    ),
    "opus and vorbis": (opus, partial(vorbis, 3.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_each_stream_of_a_chain_is_decoded(name: str) -> None:
    """Whatever changes from one to the next, all of both is there, each as it is alone."""
    first, second = (make() for make in CHAINS[name])
    for other in (second, with_serial(second, 7), with_serial(without_end(second), 7)):
        seconds, warnings = decode(first + other)
        assert warnings == ()
        assert seconds == pytest.approx(decode(first)[0] + decode(other)[0], abs=0.001)


def test_a_stream_of_a_chain_that_is_no_audio_is_damage() -> None:
    """One whose headers are lost is left out, and the rest is decoded."""
    first, second = opus(), with_serial(opus(seconds=3.0), 7)
    broken = pages(second)
    broken[0][28:36] = b"NotOpus!"
    seconds, warnings = decode(first + b"".join([sealed(broken[0]), *broken[1:]]) + first)
    assert seconds == pytest.approx(8.0, abs=0.1)
    assert warnings == (DAMAGED,)


@pytest.mark.parametrize("make", [opus, partial(vorbis, 4.0), ogg_flac])
def test_the_end_of_an_ogg_file_is_a_whole_packet(make: Callable[[], bytes]) -> None:
    """Phones leave the flag of the end out; a packet that goes on, or a page in part, is a cut."""
    data = without_end(make())
    assert decode(data)[1] == ()
    assert decode(data[:-1])[1] == (TRUNCATED,)
    goes_on = pages(data)
    segments = goes_on[-1][26]
    goes_on[-1][26:27] = bytes([segments + 1])
    goes_on[-1][27 + segments : 27 + segments] = bytes([255])
    goes_on[-1] += bytes(255)
    assert decode(b"".join([*goes_on[:-1], sealed(goes_on[-1])]))[1] == (TRUNCATED,)


@pytest.mark.parametrize("make", [opus, ogg_flac])
def test_a_lost_page_is_damage(make: Callable[[], bytes]) -> None:
    """One that is not there, and one of which a byte is not as it was."""
    found = pages(make())
    lost = found[: len(found) // 2] + found[len(found) // 2 + 1 :]
    assert decode(b"".join(lost))[1] == (DAMAGED,)
    found[len(found) // 2][-5] ^= 1
    assert decode(b"".join(found))[1] == (DAMAGED,)


def too_much(data: bytes, at: int, layout: str, more: int) -> bytes:
    """The file with a number of its header that is so much higher."""
    changed = bytearray(data)
    (number,) = struct.unpack_from(layout, data, at)
    struct.pack_into(layout, changed, at, number + more)
    return bytes(changed)


@pytest.mark.parametrize("more", [1, 2, 44])
@pytest.mark.parametrize("sample_rate_hz", [8_000, 44_100])
def test_a_header_that_counts_a_little_too_much_is_not_believed(
    more: int, sample_rate_hz: int
) -> None:
    """Recorders count their own header as sound, in every format without compression."""
    data = made("wav", "pcm_s16le", sample_rate_hz)
    headers = {"au": (8, ">I", "pcm_s16be"), "w64": (16, "<Q", "pcm_s16le")}
    headers |= {"aiff": (4, ">I", "pcm_s16be"), "wav": (data.index(b"data") + 4, "<I", "pcm_s16le")}
    for container, (at, layout, codec) in headers.items():
        data = made(container, codec, sample_rate_hz)
        assert decode(too_much(data, at, layout, more))[1] == (), container


@pytest.mark.parametrize("container", ["matroska", "asf", "mp4", "avi"])
def test_a_track_shorter_than_the_pictures_is_whole(container: str) -> None:
    """The length of a file is that of its longest track, which is not this one."""
    seconds, warnings = decode(video(4.0, container=container, picture_seconds=9))
    assert seconds == pytest.approx(4.0, abs=0.1)
    assert warnings == ()


def test_an_avi_whose_sound_begins_late_is_whole() -> None:
    """Its length counts the silence before, of which there is nothing in the file."""
    data = made("avi", "libmp3lame", 44_100)
    late = too_much(data, data.index(b"auds") + 32, "<I", 95)
    assert decode(late)[1] == ()


def test_a_track_that_can_be_decoded_is_found() -> None:
    """A first track of a codec that nobody knows, or with nothing to decode, is passed over."""
    both = tracks([tone(3.0, 44_100), tone(2.0, 44_100)], 44_100)
    assert decode(both)[0] == pytest.approx(3.0, abs=0.1)
    unknown = both.replace(b"mp4a", b"apac", 1).replace(b"esds", b"free", 1)
    assert decode(unknown)[0] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("sample_rate_hz", [768_001, 2_000_000, 2**30, 2**31 - 1])
def test_a_rate_that_is_none_is_refused(sample_rate_hz: int) -> None:
    """It would take gigabytes to resample from it."""
    with pytest.raises(NotAudio, match="sample rate"):
        decode(wav(bytes(32_000), sample_rate_hz=sample_rate_hz))


def caf_with_offset(offset: int) -> bytes:
    """A CAF file whose first chunk is of an absurd length."""
    description = struct.pack(">d4sIIIII", 8_000.0, b"lpcm", 0, 2, 1, 1, 16)
    chunks = b"desc" + struct.pack(">q", len(description)) + description
    return (
        b"caff"
        + struct.pack(">HH", 1, 0)
        + chunks
        + b"free"
        + struct.pack(">q", offset)
        + bytes(90)
    )


def asf_with_offset(offset: int) -> bytes:
    """An ASF file whose header is of an absurd length."""
    header = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + struct.pack("<QIBB", 90, 1, 1, 2)
    inner = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365") + struct.pack("<Q", offset)
    return header + inner + bytes(50)


@pytest.mark.parametrize("make", [caf_with_offset, asf_with_offset])
@pytest.mark.parametrize("offset", [2**40, 2**62, 2**63 - 100, -5 % 2**63])
def test_an_absurd_offset_is_no_fault_of_ours(
    make: Callable[[int], bytes], offset: int, tmp_path: Path
) -> None:
    """A file system refuses to go there, which is not the same in memory."""
    path = tmp_path / "audio"
    path.write_bytes(make(offset))
    with Blob.open(str(path)) as blob, pytest.raises(NotAudio):
        list(Decoder(blob.fd, blob.size, sample_rate_hz=RATE_HZ).chunks())
