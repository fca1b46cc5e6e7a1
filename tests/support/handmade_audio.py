"""Audio files that FFmpeg reads and does not write, and speech to put into files.

Where coding speech would take a whole encoder, the coded bits are drawn: what is heard is noise,
but all decoders must hear the same.
"""

import functools
import struct
import wave
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

_SPEECH = Path(__file__).parents[2] / "samples" / "calm_en.wav"
_SPEECH_STARTS = 4_000  # samples, after the pause
_DELAY_SECONDS = 0.0023
_DSD_RATE_HZ = 2_822_400
_DSD_BLOCK_BYTES = 4_096


@functools.cache
def speech(sample_rate_hz: int, channels: int = 1, seconds: float = 1.03) -> NDArray[np.float32]:
    """Speech of the bundled samples, float32 (channels, num_samples), no two channels alike."""
    with wave.open(str(_SPEECH)) as file:
        data = file.readframes(file.getnframes())
    mono = np.frombuffer(data, "<i2")[_SPEECH_STARTS:][None]  # (1, num_samples) at 16 kHz
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(mono), format="s16", layout="mono")
    frame.sample_rate = 16_000
    resampler = av.AudioResampler("fltp", "mono", sample_rate_hz)
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    sound = np.concatenate([part.to_ndarray()[0] for part in parts])
    num_samples, delay = int(seconds * sample_rate_hz), _DELAY_SECONDS * sample_rate_hz
    return np.stack(
        [
            0.9**channel * np.roll(sound, round(channel * delay))[:num_samples]
            for channel in range(channels)
        ]
    ).astype(np.float32)


def int16(samples: NDArray[np.float32], kind: str = "<i2") -> bytes:
    """Float (channels, num_samples) as interleaved 16-bit integers."""
    return np.round(samples.T * 32767).astype(kind).tobytes()


def sphere(data: bytes, sample_rate_hz: int, channels: int = 1, **fields: str) -> bytes:
    """A NIST SPHERE file; `fields` are of its header, "-s3 pcm" with their types.

    Source: NIST Speech Header Resources 2.6, header of 1024 bytes of text.
    """
    about = {
        "sample_rate": f"-i {sample_rate_hz}",
        "channel_count": f"-i {channels}",
        "sample_n_bytes": "-i 2",
        "sample_byte_format": "-s2 01",
        "sample_coding": "-s3 pcm",
    } | fields
    lines = ["NIST_1A", "   1024", *(f"{name} {value}" for name, value in about.items())]
    return ("\n".join([*lines, "end_head", ""])).encode().ljust(1_024) + data


def shorten(samples: NDArray[np.int16]) -> bytes:
    """A Shorten stream (version 2) of samples (num_samples,), as SPHERE files embed it.

    Source: Robinson, "SHORTEN: simple lossless and near-lossless waveform compression", 1994.
    """
    block = 256

    def unsigned(value: int, low_bits: int) -> str:
        low = format(value & (1 << low_bits) - 1, f"0{low_bits}b") if low_bits else ""
        return "0" * (value >> low_bits) + "1" + low

    def number(value: int) -> str:
        return unsigned(value.bit_length(), 2) + unsigned(value, value.bit_length())

    def blocks() -> Iterator[str]:
        yield from map(number, (5, 1, block, 0, 0, 0))  # signed 16 bits, one channel, no LPC
        yield unsigned(9, 2) + unsigned(44, 5) + unsigned(0, 8) * 44  # verbatim: no RIFF header
        for start in range(0, len(samples), block):
            part = samples[start : start + block].astype(int)
            if len(part) < block:
                yield unsigned(5, 2) + number(len(part))
            steps = np.diff(part, prepend=int(samples[start - 1]) if start else 0)
            folded = np.where(steps >= 0, 2 * steps, -2 * steps - 1)
            low_bits = max(1, int(folded.mean()).bit_length())
            yield unsigned(1, 2) + unsigned(low_bits - 1, 3)  # differences of neighbours
            yield "".join(unsigned(int(value), low_bits) for value in folded)
        yield unsigned(4, 2)

    bits = "".join(blocks())
    bits += "0" * (-len(bits) % 32)
    return b"ajkg\x02" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def voc(codec: int, data: bytes, sample_rate_hz: int) -> bytes:
    """A Creative Voice file of one block; `codec` above 0xFF stands in a block of type 9."""
    head = b"Creative Voice File\x1a" + struct.pack("<HHH", 26, 0x0114, 0x111F)
    if codec > 0xFF:
        kind, body = 9, struct.pack("<IBBHI", sample_rate_hz, 4, 1, codec, 0) + data
    else:
        kind, body = 1, bytes([256 - 1_000_000 // sample_rate_hz, codec]) + data
    return head + bytes([kind]) + len(body).to_bytes(3, "little") + body + b"\0"


def dsf(samples: NDArray[np.float32], *, low_bit_first: bool = True) -> bytes:
    """A DSF file of (channels, num_samples) at 352.8 kHz: one bit at 2.8224 MHz.

    Source: Sony, "DSF File Format Specification", version 1.01.
    """
    channels = len(samples)
    levels = np.repeat(samples.astype(float), 8, axis=1) / 2 + 0.5  # density of ones
    bits = np.diff(np.floor(np.cumsum(levels, axis=1)), axis=1, prepend=0).astype(np.uint8)
    packed = np.packbits(bits, axis=1, bitorder="little" if low_bit_first else "big")
    packed = np.pad(packed, ((0, 0), (0, -packed.shape[1] % _DSD_BLOCK_BYTES)))
    blocks = packed.reshape(channels, -1, _DSD_BLOCK_BYTES).transpose(1, 0, 2)
    about = (1, 0, channels, channels, _DSD_RATE_HZ, 1 if low_bit_first else 8)
    form = struct.pack("<4sQ6IQII", b"fmt ", 52, *about, bits.shape[1], _DSD_BLOCK_BYTES, 0)
    data = struct.pack("<4sQ", b"data", 12 + blocks.size) + blocks.tobytes()
    return struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(form) + len(data), 0) + form + data


def mp1(frames: int) -> bytes:
    """Noise as MPEG-1 layer I: 384 samples a frame, mono, 32 kHz, 192 kbit/s.

    Source: ISO/IEC 11172-3, 2.4.1.
    """
    rng = np.random.default_rng(1)
    head = int.from_bytes(bytes([0xFF, 0xFF, 0b0110_1000, 0b1100_0000]), "big")
    subbands = 16
    made = b""
    for _ in range(frames):
        bits = format(head, "032b")
        bits += "0011" * subbands + "0000" * (32 - subbands)  # four bits a sample in the lower ones
        bits += "".join(format(20 + band, "06b") for band in range(subbands))
        bits += "".join(format(value, "04b") for value in rng.integers(1, 14, 12 * subbands))
        bits = bits.ljust(8 * 288, "0")
        made += int(bits, 2).to_bytes(288, "big")
    return made


def program_stream(frames: bytes, *, tracks: int = 1) -> bytes:
    """An MPEG-1 program stream of MPEG audio, without its end code; all tracks have the same.

    Source: ISO/IEC 11172-1.
    """
    made = []
    for number, start in enumerate(range(0, len(frames), 1_152)):
        part = frames[start : start + 1_152]
        clock = 90 * 48 * number  # 90 kHz; four frames are 48 ms
        stamp = struct.pack(
            ">BHH", 0x21 | clock >> 29 & 0xE, clock >> 14 & 0xFFFE | 1, clock << 1 & 0xFFFE | 1
        )
        made.append(struct.pack(">I", 0x1BA) + stamp + b"\x80\x1f\x41")
        for track in range(tracks):
            made.append(struct.pack(">IH", 0x1C0 + track, 5 + len(part)) + stamp + part)
    return b"".join(made)


def speex_flv(frames: int) -> bytes:
    """Noise as Speex in FLV: wideband, 20 ms a frame.

    Source: Adobe, "Flash Video File Format Specification", version 10.1, annex E; Speex manual, 9.
    """
    rng = np.random.default_rng(3)
    made = b"FLV\x01\x04" + struct.pack(">II", 9, 0)
    for number in range(frames):
        bits = "0" + "0011" + "".join(map(str, rng.integers(0, 2, 155)))  # narrow band, mode 3
        bits += "1" + "001" + "".join(map(str, rng.integers(0, 2, 32)))  # high band, mode 1
        bits = bits.ljust(200, "1")
        body = b"\xb6" + int(bits, 2).to_bytes(25, "big")  # Speex, 16 bits, mono
        tag = struct.pack(">II", 8 << 24 | len(body), 20 * number << 8) + bytes(3) + body
        made += tag + struct.pack(">I", len(tag))
    return made


def ape(blocks: int, sample_rate_hz: int) -> bytes:
    """Noise as Monkey's Audio 3.89, "fast", mono, 16 bits, up to 9,216 samples: bits are drawn.

    Source: Monkey's Audio SDK 3.99, APE_HEADER_OLD.
    """
    coded = bytes(4) + np.random.default_rng(4).bytes(2 * blocks)  # a checksum, and Rice codes
    coded += bytes(-len(coded) % 4)
    words = np.frombuffer(coded, ">u4").astype("<u4").tobytes()
    creates_wav_header = 32
    about = (3_890, 1_000, creates_wav_header, 1, sample_rate_hz, 0, 0, 1, blocks)
    head = struct.pack("<4s4H5I", b"MAC ", *about)
    return head + struct.pack("<I", len(head) + 4) + words


def mpc7(frames: int) -> bytes:
    """Noise as Musepack, stream version 7: 1,152 samples a frame, stereo, 44.1 kHz.

    Source: libavcodec/mpc7.c of FFmpeg, and the codes of its mpc7data.h.
    """
    rng = np.random.default_rng(6)
    bits = "0" * 8  # what the demuxer counts from
    for _ in range(frames):
        frame = "1011" * 2  # both channels of the one band: samples of ten bits
        frame += "00" * 2 + ("1100" + format(20, "06b")) * 2  # one scale each, as a number
        frame += "".join(map(str, rng.integers(0, 2, 2 * 36 * 10)))
        bits += format(len(frame), "020b") + frame
    bits += "0" * (-len(bits) % 32 + 32)
    words = int(bits, 2).to_bytes(len(bits) // 8, "big")
    last_frame_samples = 1_152 << 20
    head = struct.pack("<4sI4I", b"MP+\x07", frames, 0, 0, 0, last_frame_samples)
    return head + np.frombuffer(words, ">u4").astype("<u4").tobytes()
