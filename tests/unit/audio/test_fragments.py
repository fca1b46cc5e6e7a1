"""Boxes of MP4 files: all of them count, however many there are, and one may have no end."""

from functools import cache

import pytest

from storage.objects.blob import Blob
from tests.support.audio_files import encode, tone
from worker.audio.libav import Decoder
from worker.warning import AudioWarning

EMPTY_BOX = b"\0\0\0\x08free"
MOOF_OFFSET = 4  # of its name, behind its length


@cache
def fragmented() -> bytes:
    """Eight seconds in fragments of a second."""
    return encode(
        tone(8.0, 16_000),
        16_000,
        container="mp4",
        codec="aac",
        container_options={
            "movflags": "frag_keyframe+empty_moov+default_base_moof",
            "frag_duration": "1000000",
        },
    )


def with_boxes(num_boxes: int) -> bytes:
    """The same with so many more boxes before the fragment in the middle."""
    data = fragmented()
    middle = data.index(b"moof", len(data) // 2) - MOOF_OFFSET
    return data[:middle] + num_boxes * EMPTY_BOX + data[middle:]


def warnings(data: bytes) -> tuple[AudioWarning, ...]:
    """What is doubted of a file of eight seconds, all of which has to be there."""
    with Blob.from_bytes(data) as blob:
        decoder = Decoder(blob.fd, blob.size, sample_rate_hz=16_000)
        num_samples = sum(len(chunk) // 4 for chunk in decoder.chunks())
    assert num_samples / 16_000 == pytest.approx(8.0, abs=0.1)
    return decoder.warnings


@pytest.mark.parametrize("num_boxes", [0, 9_990, 10_000, 150_000, 250_000])
def test_a_whole_file_is_not_doubted(num_boxes: int) -> None:
    """An hour and a half in fragments of a second has more than 10,000."""
    assert warnings(with_boxes(num_boxes)) == ()


@pytest.mark.parametrize("num_boxes", [0, 10_000, 150_000])
def test_what_is_no_fragment_behind_them_is_damage(num_boxes: int) -> None:
    """So it is told of a short file."""
    assert warnings(with_boxes(num_boxes) + 100_000 * b"\xff") == (AudioWarning.DAMAGED,)


@pytest.mark.parametrize("length", [0, 5])
def test_a_last_box_to_the_end_is_whole(length: int) -> None:
    """As who writes a stream leaves its length at 0; what is no length says as little."""
    whole = encode(
        tone(8.0, 16_000),
        16_000,
        container="mp4",
        codec="aac",
        container_options={"movflags": "faststart"},
    )
    last = whole.index(b"mdat") - MOOF_OFFSET
    assert warnings(whole) == ()
    assert warnings(whole[:last] + length.to_bytes(4, "big") + whole[last + 4 :]) == ()
