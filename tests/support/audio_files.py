"""Audio files of many formats for tests, made on the spot, and limits to decode them with."""

import functools
import struct
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from worker.audio.limits import AudioLimits

_FRAME_SAMPLES = 4_096


def tone(
    seconds: float, sample_rate_hz: int = 16_000, *, hz: float = 440.0, amplitude: float = 0.5
) -> NDArray[np.float32]:
    """A sine, float32 (num_samples,)."""
    time = np.arange(int(seconds * sample_rate_hz)) / sample_rate_hz
    return (amplitude * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def encode(
    samples: ArrayLike,
    sample_rate_hz: int,
    *,
    container: str,
    codec: str,
    layout: str = "mono",
    sample_format: str | None = None,
    container_options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    bit_rate: int | None = None,
    title: str | None = None,
) -> bytes:
    """A file of float samples, (num_samples,) or (channels, num_samples), in any format.

    `sample_format` is what the encoder is given, its first by default.
    """
    planes = np.atleast_2d(np.asarray(samples, np.float32))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "audio"
        with av.open(
            str(path), "w", format=container, container_options=container_options or {}
        ) as output:
            stream = output.add_stream(codec, rate=sample_rate_hz, options=codec_options or {})
            assert isinstance(stream, AudioStream)
            stream.codec_context.layout = layout
            if title is not None:
                stream.metadata["title"] = output.metadata["title"] = title
            if sample_format is not None:
                stream.codec_context.format = av.AudioFormat(sample_format)
            if bit_rate is not None:
                stream.codec_context.bit_rate = bit_rate
            resampler = av.AudioResampler(stream.codec_context.format, layout, sample_rate_hz)
            for start in range(0, planes.shape[1], _FRAME_SAMPLES):
                part = planes[:, start : start + _FRAME_SAMPLES]
                packed = np.ascontiguousarray(part.T).reshape(1, -1)  # (1, samples x channels)
                frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
                frame.sample_rate = sample_rate_hz
                frame.pts, frame.time_base = start, Fraction(1, sample_rate_hz)
                for converted in resampler.resample(frame):
                    output.mux(stream.encode(converted))
            output.mux(stream.encode(None))
        return path.read_bytes()


@functools.cache
def mp3(seconds: float, sample_rate_hz: int = 44_100, *, layout: str = "mono") -> bytes:
    """A tone as an MP3 file whose first frame states its length."""
    channels = 2 if layout == "stereo" else 1
    samples = np.tile(tone(seconds, sample_rate_hz), (channels, 1))
    return encode(samples, sample_rate_hz, container="mp3", codec="libmp3lame", layout=layout)


@functools.cache
def m4a(seconds: float, sample_rate_hz: int = 44_100, *, index_first: bool = False) -> bytes:
    """A tone as an M4A file, its index at the end as encoders write it, or moved to the front."""
    return encode(
        tone(seconds, sample_rate_hz),
        sample_rate_hz,
        container="ipod",
        codec="aac",
        container_options={"movflags": "faststart"} if index_first else None,
    )


@functools.cache
def silent_flac(seconds: int) -> bytes:
    """Much silence in few bytes."""
    rate_hz = 8_000
    return encode(np.zeros(seconds * rate_hz), rate_hz, container="flac", codec="flac")


def tracks(sounds: list[NDArray[np.float32]], sample_rate_hz: int) -> bytes:
    """An MP4 file of several tracks of AAC, each of float32 (num_samples,)."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "audio"
        with av.open(str(path), "w", format="mp4") as output:
            streams = [output.add_stream("aac", rate=sample_rate_hz, layout="mono") for _ in sounds]
            for stream, samples in zip(streams, sounds, strict=True):
                _mux(output, stream, samples)
        return path.read_bytes()


def _mux(output: OutputContainer, stream: AudioStream, samples: NDArray[np.float32]) -> None:
    """Encode float32 (num_samples,) as AAC or WMA, to the end of the stream."""
    for start in range(0, len(samples), 1_024):
        part = samples[None, start : start + 1_024]
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate = stream.codec_context.sample_rate
        frame.pts, frame.time_base = start, Fraction(1, frame.sample_rate)
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def video_only() -> bytes:
    """A Matroska file with a picture and no sound."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "video"
        with av.open(str(path), "w", format="matroska") as output:
            stream = output.add_stream("mjpeg", rate=1)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
            picture = np.zeros((16, 16, 3), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode(None))
        return path.read_bytes()


@functools.cache
def wma(seconds: float, sample_rate_hz: int = 44_100) -> bytes:
    """A tone as a WMA file."""
    samples = tone(seconds, sample_rate_hz)
    return encode(samples, sample_rate_hz, container="asf", codec="wmav2", bit_rate=64_000)


@functools.cache
def vorbis(seconds: float, sample_rate_hz: int = 16_000, *, channels: int = 1) -> bytes:
    """A tone as an Ogg file with Vorbis, which the wheels of PyAV cannot encode well."""
    return _by_program(seconds, sample_rate_hz, channels, "-c:a", "libvorbis", "-f", "ogg")


@functools.cache
def dts(seconds: float, sample_rate_hz: int = 44_100, *, channels: int = 2) -> bytes:
    """A tone in frames of DTS as they lie on a disc, 1.4 Mbit/s; PyAV has no encoder for it."""
    options = ("-c:a", "dca", "-strict", "-2", "-b:a", "1411200", "-f", "dts")
    return _by_program(seconds, sample_rate_hz, channels, *options)


def _by_program(seconds: float, sample_rate_hz: int, channels: int, *options: str) -> bytes:
    source = f"sine=440:sample_rate={sample_rate_hz}:duration={seconds}"
    line = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", source]
    line += ["-ac", str(channels), *options, "-"]
    return subprocess.run(line, check=True, capture_output=True).stdout


def video(seconds: float, *, container: str = "matroska", picture_seconds: int = 0) -> bytes:
    """A tone in a file whose first stream is pictures, a second apart, for as long as is said."""
    is_asf = container == "asf"
    pictures = {"asf": "msmpeg4v2", "flv": "flv"}.get(container, "mpeg4")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "video"
        with av.open(str(path), "w", format=container) as output:
            stream = output.add_stream(pictures, rate=1)
            assert isinstance(stream, VideoStream)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            sound = output.add_stream("wmav2" if is_asf else "aac", rate=44_100, layout="mono")
            sound.codec_context.bit_rate = 64_000
            black = np.zeros((16, 16, 3), np.uint8)
            for number in range(1 + picture_seconds):
                picture = av.VideoFrame.from_ndarray(black, format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1)
                output.mux(stream.encode(picture))
            output.mux(stream.encode(None))
            _mux(output, sound, tone(seconds, 44_100))
        return path.read_bytes()


def wav(
    data: bytes,
    *,
    form: int = 1,
    channels: int = 1,
    sample_rate_hz: int = 16_000,
    bits: int = 16,
    mask: int = 0,
    data_size: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A WAV file with `data` as it is; `data_size` overrules what the header says of it.

    `before` and `after` are chunks around the data; `form` 0xFFFE writes the extensible header of
    a PCM file, whose `mask` says which channel is which.
    """
    block = channels * bits // 8
    fields = struct.pack(
        "<HHIIHH", form, channels, sample_rate_hz, sample_rate_hz * block, block, bits
    )
    if form == 0xFFFE:
        fields += struct.pack("<HHI", 22, bits, mask)
        fields += bytes.fromhex("0100 0000 0000 1000 8000 00aa 0038 9b71")
    size = len(data) if data_size is None else data_size
    body = b"WAVE" + chunk(b"fmt ", fields) + before + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) + len(after)) + body + after


def chunk(kind: bytes, body: bytes) -> bytes:
    """A RIFF chunk, padded to an even length."""
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def pcm16(samples: NDArray[np.float32]) -> bytes:
    """Float samples as little-endian 16-bit integers."""
    return np.round(samples * 32767).astype("<i2").tobytes()


def id3(body: bytes, *, size: int | None = None) -> bytes:
    """An ID3v2.3 tag around `body`; `size` overrules what its header says."""
    length = len(body) if size is None else size
    return b"ID3\x03\x00\x00" + bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def id3_with_cover(title: bytes, picture: bytes) -> bytes:
    """An ID3 tag with a title in whatever encoding and a JPEG as cover art."""
    cover = b"\x00image/jpeg\x00\x03\x00" + picture
    frames = b"TIT2" + struct.pack(">IH", len(title) + 1, 0) + b"\x00" + title
    frames += b"APIC" + struct.pack(">IH", len(cover), 0) + cover
    return id3(frames)


def huge_index() -> tuple[bytes, int]:
    """An M4A file whose index asks for 200 MB at once: how it begins, and its length.

    The rest is zeros; left out, as a hole in a sparse file, they cost nothing.
    """
    entries = 50_000_000
    zeros = 4 * entries
    boxes = struct.pack(">I4sIII", 20 + zeros, b"stsz", 0, 0, entries)
    for kind in (b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        boxes = struct.pack(">I4s", 8 + len(boxes) + zeros, kind) + boxes
    start = struct.pack(">I4s4sI", 16, b"ftyp", b"M4A ", 0) + boxes
    return start, len(start) + zeros


def ample_limits(spool_dir: Path) -> AudioLimits:
    """The limits of a worker's defaults, which no ordinary file meets."""
    return AudioLimits(
        max_audio_seconds=7_200,
        window_seconds=30,
        timeout_seconds=30,
        memory_bytes=1024**3,
        spool_dir=spool_dir,
    )
