"""Any supported file to mono samples, with PyAV. Free of numpy: decode processes import it.

What arrives here is hostile until decoded: no format that points to other files or the network is
opened, nothing is held whole, and a packet that does not decode is left out.
"""

import itertools
import os
from collections.abc import Iterator, Sequence

import av
import av.error
import av.subtitles.codeccontext  # otherwise imported when a file has some: that is refused
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from storage.errors import NoAudioStream, NotAudio
from storage.wire.channels import MIX
from worker.audio.encryption import require_open
from worker.audio.formats import DECODERS, FORMATS
from worker.audio.joined import find_joined
from worker.audio.lanes import Lanes
from worker.audio.limits import empty_object, no_audio_stream
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.rates import INT16_BYTES, Form, is_left_to_device
from worker.audio.resampling import Resampler
from worker.audio.section import Section
from worker.audio.wholeness import (
    STEP_SECONDS,
    Heard,
    allows_pauses,
    find_warnings,
    hardly_audio,
    is_by_chance,
    track_of,
)
from worker.warning import AudioWarning, in_order

# By default a WAV file takes ten times as long to open, in search of DTS among its samples.
_WAV_PROBE_BYTES = 16_384
_DECODERS = frozenset(DECODERS.split(","))
# What stands between two files that were joined, and is given to the decoder as a packet.
_TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_INT16_FORMATS = ("s16", "s16p")


class OtherForm(Exception):
    """Not all of a file is in the form that it began with: decode it anew, all to one rate."""


class Decoder:
    """One file on its way from bytes to samples. Not thread-safe; owned by a decode process."""

    def __init__(
        self,
        fd: int,
        size: int,
        *,
        sample_rate_hz: int,
        channel: str = MIX,
        channels: int = 0,
        own_rate: bool = False,
    ) -> None:
        """Read the `size` bytes behind `fd`, which stays the caller's to close.

        What is asked of its channels, `lanes` makes of them; see `Lanes`. With `own_rate`, one lane
        stays at its rate where a device can resample that. `form` is right once there are samples.
        """
        self.lanes = Lanes(channel, channels)
        self.damaged_packets = 0
        self.warnings: tuple[AudioWarning, ...] = ()
        self._fd = fd
        self._size = size
        self._asked = self.form = Form(sample_rate_hz, SAMPLE_BYTES)
        self._own_rate = own_rate
        self._begun = False
        self._heard = Heard()

    @property
    def share_read(self) -> float:
        """About how much of the file is decoded by now, from 0 (excluded) to 1."""
        read_bytes = os.lseek(self._fd, 0, os.SEEK_CUR)
        return min(1.0, max(read_bytes, 1) / max(self._size, 1))

    def chunks(self) -> Iterator[memoryview]:
        """Samples (samples, lanes) as bytes; `warnings` and `damaged_packets` are right at the end.

        Files that are joined in one are decoded one after the other. Raises NotAudio,
        NoAudioStream, InvalidJob, MoreChannels, OtherForm, MemoryError.
        """
        joined = find_joined(self._fd, self._size)
        found = set(joined.warnings)
        num_decoded, refused = 0, None
        for start, stop in joined.sections:
            try:
                yield from self._section(start, stop)
                num_decoded += 1
                found.update(self.warnings)
            except (NotAudio, NoAudioStream) as error:
                if len(joined.sections) == 1:
                    raise
                refused = error
                found.add(AudioWarning.DAMAGED)
        if refused and not num_decoded:
            raise refused
        self.lanes.end()
        self.warnings = in_order(found)

    def _section(self, start: int, stop: int) -> Iterator[memoryview]:
        """Samples of the first audio track there that can be decoded. Raises as `chunks`."""
        with Section(self._fd, start, stop) as file:
            for number in itertools.count():
                with _open(file, stop - start) as container:
                    stream = _track(container, number)
                    require_open(self._fd, container.format.name, stream.metadata)
                    self._heard = heard = Heard()
                    for chunk in self._resampled(container, stream):
                        samples = len(chunk) / self.form.sample_bytes / self.lanes.count
                        heard.seconds += samples / self.form.sample_rate_hz
                        yield chunk
                    if not heard.seconds:
                        continue
                    if is_by_chance(container.format.name, heard):
                        raise hardly_audio(stream.codec_context.name)
                    track = track_of(self._fd, container, stream)
                    found = find_warnings(self._fd, self._size, track, heard)
                    self.warnings = in_order(found)
                    return

    def _resampled(self, container: InputContainer, stream: AudioStream) -> Iterator[memoryview]:
        """Samples of every frame, through a new graph whenever the frames change their form."""
        resampler: Resampler | None = None
        for frame in self._frames(container, stream):
            if resampler is None or not resampler.takes(frame):
                if resampler is not None:
                    yield from resampler.push(None)
                lanes = self.lanes.of(frame.layout.nb_channels)
                self._keep_to(self._form_for(frame, lanes))
                resampler = Resampler(frame, self.form, lanes)
            yield from resampler.push(frame)
        if resampler is not None:
            yield from resampler.push(None)

    def _form_for(self, frame: AudioFrame, lanes: Sequence[int | None]) -> Form:
        """What to make of such frames: int16 only where that is what they are, nothing mixed."""
        rate_hz = frame.sample_rate
        if not self._own_rate or not is_left_to_device(rate_hz, self._asked.sample_rate_hz):
            return self._asked
        plain = frame.layout.nb_channels == 1 or lanes[0] is not None
        is_int16 = plain and frame.format.name in _INT16_FORMATS
        return Form(rate_hz, INT16_BYTES if is_int16 else SAMPLE_BYTES)

    def _keep_to(self, form: Form) -> None:
        """Raise OtherForm where what came before is in another form."""
        if self._begun and form != self.form:
            raise OtherForm
        self.form, self._begun = form, True

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        """Decoded frames; what does not decode is counted and left out."""
        heard, decode = self._heard, stream.decode
        tick_seconds = float(stream.time_base or 0)
        has_pauses = allows_pauses(stream.codec_context.name)
        step_seconds = None if has_pauses else STEP_SECONDS.get(container.format.name)
        frame: AudioFrame | None = None
        lacking = False
        for packet in self._packets(container, stream):
            try:
                frames = decode(packet)
            except MemoryError:
                raise
            except EOFError:
                continue
            except av.error.FFmpegError:
                self.damaged_packets += 1
                heard.failed_packets += 1
                lacking |= frame is not None and not bytes(packet or b"").startswith(_TAGS)
                continue
            for frame in frames:
                if step_seconds is not None and frame.pts is not None:
                    start_seconds = tick_seconds * frame.pts
                    limit_seconds = heard.reached_seconds + step_seconds
                    heard.has_holes |= heard.reached_seconds > 0 and start_seconds > limit_seconds
                    heard.reached_seconds = start_seconds + frame.samples / frame.sample_rate
                yield frame
            if lacking and frames and packet is not None and packet.size:
                heard.has_holes = True
                lacking = False
        if frame is not None and frame.pts is not None:
            heard.reached_seconds = tick_seconds * frame.pts + frame.samples / frame.sample_rate

    def _packets(
        self, container: InputContainer, stream: AudioStream
    ) -> Iterator["Packet[AudioStream] | None"]:  # generic for type checkers only
        """Packets of the stream, and what makes the decoder give its last frames."""
        heard = self._heard
        try:
            for packet in container.demux(stream):  # ends with an empty packet
                if num_bytes := packet.size:
                    heard.num_packets += 1
                    heard.num_bytes += num_bytes
                    if heard.is_cut:
                        heard.has_holes = True  # for this is not the last
                    heard.is_cut = packet.is_corrupt
                yield packet
        except MemoryError:
            raise
        except IndexError:  # after the empty packet, where tracks have appeared on the way
            return
        except av.error.FFmpegError:
            heard.ended_in_error = True
            yield None


def _track(container: InputContainer, number: int) -> AudioStream:
    """The audio track of that number among those that can be decoded, ready to be.

    Raises NotAudio where there are not so many, NoAudioStream where there is none of any kind.
    """
    tracks = container.streams.audio
    if not tracks:
        raise no_audio_stream()
    # PyAV has no codec context where FFmpeg has no decoder.
    codecs = [track.codec_context.name if track.codec_context else None for track in tracks]
    known = [at for at, codec in enumerate(codecs) if codec in _DECODERS]
    if number < len(known):
        stream = tracks[known[number]]
        stream.codec_context.thread_count = 1
        return stream
    if known:
        raise NotAudio(
            f"no sample of its {codecs[known[0]]} audio could be decoded: the file is damaged, "
            "empty or encrypted; send another copy"
        )
    name = f", {codecs[0]}, is none that we decode" if codecs[0] else " is not known"
    raise NotAudio(f"its audio codec{name}: send WAV, FLAC, MP3, AAC or Opus")


def _open(file: Section, size: int) -> InputContainer:
    """Open the file as one of FORMATS, which may open nothing else. Raises NotAudio."""
    if size == 0:
        raise empty_object()
    options = {
        "format_whitelist": FORMATS,
        "codec_whitelist": DECODERS,  # a container is probed by decoding some of each stream
        "protocol_whitelist": "",
    }
    if os.pread(file.fileno(), 4, file.start + 8) == b"WAVE":
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
