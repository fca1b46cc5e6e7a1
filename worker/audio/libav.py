"""Any supported file to 16 kHz mono float32, with PyAV. Free of numpy: decode processes import it.

What arrives here is hostile until decoded: no format that points to other files or the network is
opened, nothing is held whole, and a packet that does not decode is left out.
"""

import os
from collections.abc import Iterator
from io import FileIO

import av
import av.error
import av.subtitles.codeccontext  # otherwise imported when a file has some: that is refused
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.filter import Graph
from av.packet import Packet

from storage.errors import NoAudioStream, NotAudio
from worker.audio.formats import DECODERS, FORMATS, resample_options
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.truncation import is_truncated

_MIN_SAMPLE_RATE_HZ = 1_000  # below it, a single packet of a hostile file is hours of audio
# Asking the graph after every packet costs more than the resampling: most answers are exceptions.
_BATCH_SAMPLES = 65_536
_CHUNK_SAMPLES = 16_384
_WAV_PROBE_BYTES = 32_768  # by default a WAV file takes ten times as long to open


class Decoder:
    """One file on its way from bytes to samples. Not thread-safe; owned by a decode process."""

    def __init__(self, fd: int, size: int, *, sample_rate_hz: int) -> None:
        """Read the `size` bytes behind `fd`, which stays the caller's to close."""
        self.damaged_packets = 0
        self.truncated = False
        self._fd = fd
        self._size = size
        self._sample_rate_hz = sample_rate_hz
        self._cut_packet = False

    @property
    def share_read(self) -> float:
        """About how much of the file is decoded by now, from 0 (excluded) to 1."""
        read_bytes = os.lseek(self._fd, 0, os.SEEK_CUR)
        return min(1.0, max(read_bytes, 1) / max(self._size, 1))

    def chunks(self) -> Iterator[memoryview]:
        """Mono float32 samples as bytes; `truncated` and `damaged_packets` are right at the end.

        Raises NotAudio, NoAudioStream, MemoryError.
        """
        with FileIO(self._fd, closefd=False) as file, _open(file, self._size) as container:
            if not container.streams.audio:
                raise NoAudioStream("the file has no audio track: send one that has")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise NotAudio("its audio codec is not known: send WAV, FLAC, MP3, AAC or Opus")
            if stream.codec_context.name not in DECODERS.split(","):
                raise NotAudio(
                    f"its audio codec, {stream.codec_context.name}, is none that we decode: send "
                    "WAV, FLAC, MP3, AAC or Opus"
                )
            stream.codec_context.thread_count = 1
            num_samples = 0
            for chunk in self._resampled(container, stream):
                num_samples += len(chunk) // SAMPLE_BYTES
                yield chunk
            if num_samples == 0:
                raise NotAudio(
                    f"no sample of its {stream.codec_context.name} audio could be decoded: the "
                    "file is damaged, empty or encrypted; send another copy"
                )
            self.truncated = is_truncated(
                self._fd,
                self._size,
                container,
                decoded_seconds=num_samples / self._sample_rate_hz,
                cut_packet=self._cut_packet,
            )

    def _resampled(self, container: InputContainer, stream: AudioStream) -> Iterator[memoryview]:
        """Samples of every frame, through a new graph whenever the frames change their form."""
        resampler: _Resampler | None = None
        for frame in self._frames(container, stream):
            if resampler is None or resampler.form != _form(frame):
                if resampler is not None:
                    yield from resampler.push(None)
                resampler = _Resampler(_form(frame), self._sample_rate_hz)
            yield from resampler.push(frame)
        if resampler is not None:
            yield from resampler.push(None)

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        """Decoded frames; what does not decode is counted and left out."""
        for packet in self._packets(container, stream):
            try:
                frames = stream.decode(packet)
            except MemoryError:
                raise
            except EOFError:
                continue
            except av.error.FFmpegError:
                self.damaged_packets += 1
                continue
            yield from frames

    def _packets(
        self, container: InputContainer, stream: AudioStream
    ) -> Iterator["Packet[AudioStream] | None"]:  # generic for type checkers only
        """Packets of the stream, and what makes the decoder give its last frames."""
        try:
            for packet in container.demux(stream):  # ends with an empty packet
                if packet.has_sidedata("encryption_info"):  # as sound it would be noise
                    raise NotAudio("its audio is encrypted (DRM): send a copy that is not")
                self._cut_packet |= packet.is_corrupt
                yield packet
        except MemoryError:
            raise
        except IndexError:  # after the empty packet, where tracks have appeared on the way
            return
        except av.error.FFmpegError:
            self._cut_packet = True
            yield None


_Form = tuple[str, str, int]


def _form(frame: AudioFrame) -> _Form:
    """What a filter graph is built for: sample format, channel layout, sample rate in Hz."""
    return frame.format.name, frame.layout.name, frame.sample_rate


class _Resampler:
    """Frames of one form to mono float32 at the target rate."""

    def __init__(self, form: _Form, sample_rate_hz: int) -> None:
        self.form = form
        sample_format, layout, rate_hz = form
        if rate_hz < _MIN_SAMPLE_RATE_HZ:
            raise NotAudio(
                f"its sample rate of {rate_hz} Hz cannot be that of sound: the header is wrong"
            )
        self._waiting_samples = 0
        self._graph = Graph()
        self._graph.threads = 1  # others would be started for each file anew, and may not be
        self._source = self._graph.add_abuffer(
            sample_rate=rate_hz, format=sample_format, layout=layout
        )
        resample = self._graph.add("aresample", resample_options(sample_rate_hz))
        self._sink = self._graph.add("abuffersink")
        try:
            self._graph.link_nodes(self._source, resample, self._sink).configure()
        except ValueError as error:
            raise NotAudio(f"its channels ({layout}) cannot be mixed down to mono") from error
        self._graph.set_audio_frame_size(_CHUNK_SAMPLES)

    def push(self, frame: AudioFrame | None) -> Iterator[memoryview]:
        """Take a frame, or None at the end, and give the samples that are ready."""
        self._source.push(frame)
        if frame is not None:
            self._waiting_samples += frame.samples
            if self._waiting_samples < _BATCH_SAMPLES:
                return
            self._waiting_samples = 0
        while True:
            try:
                ready = self._sink.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(ready, AudioFrame)
            yield memoryview(ready.planes[0])[: SAMPLE_BYTES * ready.samples]


def _open(file: FileIO, size: int) -> InputContainer:
    """Open the file as one of FORMATS, which may open nothing else. Raises NotAudio."""
    if size == 0:
        raise NotAudio("the object is empty: 0 bytes")
    options = {
        "format_whitelist": FORMATS,
        "codec_whitelist": DECODERS,  # a container is probed by decoding some of each stream
        "protocol_whitelist": "",
    }
    if os.pread(file.fileno(), 4, 8) == b"WAVE":
        options["probesize"] = str(_WAV_PROBE_BYTES)
    file.seek(0)
    try:
        # Tags in old encodings are common; they must not fail the file.
        return av.open(file, "r", container_options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise NotAudio(
            "the object is not audio in a format we know, or is cut off before its index: send "
            "WAV, FLAC, MP3, M4A, OGG, WebM or AMR"
        ) from error
