"""A recording as every browser plays it, and goes to any moment of it: MP3. Free of numpy.

Each frame is of one size and stands alone (no bit reservoir), so where a moment lies in the file is
known by counting. A first frame of silence says how much of the first and last one is none of the
recording; source: LAME 3.100, "mp3 info tag revision 1".
"""

import struct
from array import array
from collections.abc import Iterator
from fractions import Fraction

from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.codec.context import CodecContext

from worker.audio.pcm import SAMPLE_BYTES

_ENCODER = "libmp3lame"
_QUALITY = "7"  # of 0, the best, to 9; beyond 7 it gets no faster
_BITS_A_SECOND = {1: 40_000, 2: 64_000}  # of speech; the first frame has to fit its tag
FRAME_SAMPLES = 576
_DELAY_SAMPLES = 576  # of the encoder; the decoder's 529 are known to whoever decodes
_FLUSHED_FRAMES = 2  # that hold what is delayed
_HEADER_BYTES = 4
_SIDE_BYTES = {1: 9, 2: 17}  # of what stands before the tag
_ALL_FIELDS = 15  # frames, bytes, table of contents, quality
_CONSTANT_BIT_RATE = 1
_TABLE = bytes(256 * hundredth // 100 for hundredth in range(100))


def channels_heard(lanes: int) -> list[int]:
    """The lanes that are left and right, or the one that is both: two channels stay apart."""
    return [1, 2] if lanes == 3 else [0]  # noqa: PLR2004 (the mix, and each of two)


def preview_bytes(num_samples: int, lanes: int) -> int:
    """How long the preview of so many samples at 16 kHz in all lanes is."""
    channels = len(channels_heard(lanes))
    return (1 + _num_frames(num_samples // lanes)) * _frame_bytes(channels)


def encoded(
    pieces: Iterator[bytes], num_samples: int, lanes: int, sample_rate_hz: int
) -> Iterator[bytes]:
    """An MP3 file, piece by piece, of float32 (num_samples / lanes, lanes) that come as bytes.

    What is beyond [-1, 1] is clipped. Raises RuntimeError where the encoder gives another number of
    frames, or of another size, than was said beforehand.
    """
    chosen = channels_heard(lanes)
    each, size = num_samples // lanes, _frame_bytes(len(chosen))
    left = _num_frames(each)
    for packet in _packets(pieces, lanes, chosen, sample_rate_hz):
        if left == _num_frames(each):
            yield _first_frame(packet[:_HEADER_BYTES], len(chosen), left, each)
        if len(packet) != size or not left:
            raise RuntimeError(f"the MP3 encoder gave {len(packet)} bytes with {left} frames to go")
        left -= 1
        yield packet
    if left:
        raise RuntimeError(f"the MP3 encoder owes {left} frames")


def _packets(
    pieces: Iterator[bytes], lanes: int, chosen: list[int], sample_rate_hz: int
) -> Iterator[bytes]:
    layout = "mono" if len(chosen) == 1 else "stereo"
    encoder = CodecContext.create(_ENCODER, "w")
    assert isinstance(encoder, AudioCodecContext)
    encoder.sample_rate, encoder.layout, encoder.format = sample_rate_hz, layout, "s16p"
    encoder.bit_rate = _BITS_A_SECOND[len(chosen)]
    encoder.time_base = Fraction(1, sample_rate_hz)
    # Without a reservoir each frame stands alone; the sides of a call have nothing in common.
    encoder.options = {"compression_level": _QUALITY, "reservoir": "0", "joint_stereo": "0"}
    at = 0
    for piece in pieces:
        frame = frame_of(_picked(piece, lanes, chosen), layout, sample_rate_hz)
        frame.pts, frame.time_base = at, encoder.time_base
        at += frame.samples
        yield from map(bytes, encoder.encode(frame))
    yield from map(bytes, encoder.encode(None))


def frame_of(samples: bytes, layout: str, sample_rate_hz: int) -> AudioFrame:
    """A frame of interleaved float32."""
    channels = 1 if layout == "mono" else 2
    frame = AudioFrame("flt", layout, len(samples) // SAMPLE_BYTES // channels)
    plane = frame.planes[0]
    plane.update(samples + bytes(plane.buffer_size - len(samples)))
    frame.sample_rate = sample_rate_hz
    return frame


def _picked(piece: bytes, lanes: int, chosen: list[int]) -> bytes:
    """Of float32 in all lanes those in the chosen ones."""
    if len(chosen) == lanes:
        return piece
    samples = array("f", piece)
    picked = array("f", bytes(len(piece) // lanes * len(chosen)))
    for number, lane in enumerate(chosen):
        picked[number :: len(chosen)] = samples[lane::lanes]
    return picked.tobytes()


def _num_frames(num_samples: int) -> int:
    """Frames after the first, of so many samples a channel."""
    return -(-num_samples // FRAME_SAMPLES) + _FLUSHED_FRAMES


def _frame_bytes(channels: int) -> int:
    return _BITS_A_SECOND[channels] * FRAME_SAMPLES // 8 // 16_000


def _first_frame(header: bytes, channels: int, frames: int, num_samples: int) -> bytes:
    """A frame of silence with a tag, whose header is that of the others."""
    size = _frame_bytes(channels)
    padding = frames * FRAME_SAMPLES - _DELAY_SAMPLES - num_samples
    delays = (_DELAY_SAMPLES << 12 | padding).to_bytes(3, "big")
    tag = struct.pack(">4sIII", b"Info", _ALL_FIELDS, frames, (1 + frames) * size)
    tag += _TABLE + struct.pack(">I9sB", 100 - 10 * int(_QUALITY), b"LAME3.100", _CONSTANT_BIT_RATE)
    tag += bytes(1 + 4 + 2 + 2 + 1)  # low pass, loudness, flags: not told
    tag += bytes([_BITS_A_SECOND[channels] // 1000]) + delays
    tag += bytes(1 + 1 + 2) + struct.pack(">IH", (1 + frames) * size, 0)
    frame = header + bytes(_SIDE_BYTES[channels]) + tag
    frame += _crc16(frame).to_bytes(2, "big")
    return frame + bytes(size - len(frame))


def _crc16(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
