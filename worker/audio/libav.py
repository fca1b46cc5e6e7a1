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
from av.packet import Packet

from storage.errors import NoAudioStream, NotAudio
from storage.wire.channels import MIX
from worker.audio.formats import DECODERS, FORMATS
from worker.audio.lanes import Lanes
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.resampling import Resampler, form_of
from worker.audio.truncation import is_truncated

_WAV_PROBE_BYTES = 32_768  # by default a WAV file takes ten times as long to open


class Decoder:
    """One file on its way from bytes to samples. Not thread-safe; owned by a decode process."""

    def __init__(
        self, fd: int, size: int, *, sample_rate_hz: int, channel: str = MIX, channels: int = 0
    ) -> None:
        """Read the `size` bytes behind `fd`, which stays the caller's to close.

        What is asked of its channels, `lanes` makes of them; see `Lanes`.
        """
        self.lanes = Lanes(channel, channels)
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
        """float32 (samples, lanes) as bytes; what it is found to lack is known at the end.

        Raises NotAudio, NoAudioStream, InvalidJob, MoreChannels, MemoryError.
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
                num_samples += len(chunk) // (SAMPLE_BYTES * self.lanes.count)
                yield chunk
            if num_samples == 0:
                raise NotAudio(
                    f"no sample of its {stream.codec_context.name} audio could be decoded: the "
                    "file is damaged, empty or encrypted; send another copy"
                )
            self.lanes.end()
            self.truncated = is_truncated(
                self._fd,
                self._size,
                container,
                decoded_seconds=num_samples / self._sample_rate_hz,
                cut_packet=self._cut_packet,
            )

    def _resampled(self, container: InputContainer, stream: AudioStream) -> Iterator[memoryview]:
        """Samples of every frame, through a new graph whenever the frames change their form."""
        resampler: Resampler | None = None
        for frame in self._frames(container, stream):
            if resampler is None or resampler.form != form_of(frame):
                if resampler is not None:
                    yield from resampler.push(None)
                lanes = self.lanes.of(frame.layout.nb_channels)
                resampler = Resampler(form_of(frame), self._sample_rate_hz, lanes)
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
