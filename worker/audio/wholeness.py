"""Whether all of a file was there, and all of it was decoded. Free of numpy.

Only what a container states counts. Lengths that FFmpeg estimates from the size of the file and a
bit rate are no statement: they are wrong for every file of variable bit rate. Nor is a length that
is that of the whole file, where there is more in it than this track.
"""

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from storage.errors import NotAudio
from worker.audio.extent import MATROSKA, MP4, declared_end, is_audio, is_fragmented
from worker.audio.mp3 import find_count
from worker.audio.musepack import num_samples
from worker.audio.riff import read_header
from worker.audio.slack import slack_seconds
from worker.warning import AudioWarning

LENGTH_OF_TRACK = (
    *("aiff", "ape", "au", "flac", "mpc", "nistsphere", "tta", "wv"),
    MP4,
)
# How far the time stamps of frames may be apart where nothing is missing. Others do not say: they
# count packets, or have gaps by design, as those of Opus for silence.
STEP_SECONDS = {"flac": 0.001, "asf": 0.25, "flv": 0.25, "mpegts": 0.25, MATROSKA: 0.25, MP4: 0.25}
_CODECS_WITH_PAUSES = ("opus", "libopus", "speex", "libspeex", "nellymoser")
_COUNT_WHAT_IS_BEFORE = ("avi",)  # the silence before a track that begins late
# Encoders say where they are, and codecs what they need ahead, in samples, at whatever rate: AAC
# 2112 and whole frames of 1024, MP3 1105 and frames of 1152.
_CODEC_DELAY_SAMPLES = 4_096
_CODECS_WITH_DELAY = ("aac", "aac_latm", "mp3", "mp3float", "wmav1", "wmav2", "wmapro", "wmavoice")
_SAMPLES_PER_FRAME = {"mp3": 1_152, "mp3float": 1_152, "mp2": 1_152, "mp2float": 1_152}
_HALF_FRAMES_BELOW_HZ = 32_000  # MPEG-2 and 2.5, layer 3
# Told by sync words, of which other files have a few by chance.
_TOLD_BY_SYNC_WORDS = ("mp3", "mpeg")
_MOST_BY_CHANCE = 2  # packets; or where others fail beside them
_MOST_BESIDE_FAILED = 4
_MOST_FAILED = 0.9  # of the packets
_FLV_HEAD_BYTES = 4_096
_FLV_TRACKS_OFFSET = 4
_FLV_SOUND = 4
_FLV_DURATION = b"\x00\x08duration\x00"  # of `onMetaData`, before a number of AMF


@dataclass(frozen=True, slots=True)
class Track:
    """What the container states of a track."""

    form: str  # FFmpeg's name of the container
    seconds: float | None  # its length, where that is stated
    num_bytes: int | None  # of its packets, where there is an index
    is_alone: bool  # nothing else is in the container
    delay_seconds: float  # that its length may count, and its samples not


@dataclass(slots=True)
class Heard:
    """What came of a track while it was decoded."""

    seconds: float = 0.0
    num_packets: int = 0
    failed_packets: int = 0  # of them
    num_bytes: int = 0  # of them all
    reached_seconds: float = 0.0  # where its last frame ends, by its time stamps
    has_holes: bool = False  # something is missing between what was decoded
    ended_in_error: bool = False  # demuxing did
    is_cut: bool = False  # the last packet is there in part


def find_warnings(fd: int, size: int, track: Track, heard: Heard) -> Iterator[AudioWarning]:
    """What to doubt of a track of the file of `size` bytes at `fd`, of which that was heard."""
    slack = slack_seconds(heard.seconds)
    unheard_ratio = 1 - heard.num_bytes / track.num_bytes if track.num_bytes else 0.0
    if heard.has_holes or unheard_ratio * heard.seconds > slack:
        yield AudioWarning.DAMAGED
    if track.form == "wav" and (header := read_header(fd, size)) is not None:
        yield from header.warnings
        return
    end = declared_end(fd, size, track.form)
    behind_seconds = 0.0 if end is None else (size - end) / max(1, min(size, end)) * heard.seconds
    is_short = (track.is_alone or track.seconds is None) and -behind_seconds > slack
    if track.seconds is not None:
        reached_seconds = max(heard.seconds, heard.reached_seconds)
        is_short |= track.seconds - reached_seconds > slack + track.delay_seconds
    else:
        is_short |= heard.is_cut and (end is None or end > size)
    has_end = end is not None and end <= size
    is_behind_end = has_end and track.seconds is not None and not is_short
    if (heard.ended_in_error and not is_behind_end) or (is_short and not has_end):
        yield AudioWarning.TRUNCATED
    elif is_short and track.form not in _COUNT_WHAT_IS_BEFORE:
        yield AudioWarning.DAMAGED  # for the end is there
    if end is not None and behind_seconds > slack:
        was_read = track.seconds is not None and heard.seconds > track.seconds + slack
        if not was_read and is_audio(fd, track.form, end):
            yield AudioWarning.TRAILING_DATA
        elif track.form == MP4 and track.seconds is None:
            yield AudioWarning.DAMAGED  # the next fragment is none


def is_by_chance(form: str, heard: Heard) -> bool:
    """Whether so little came of a track that its file is some other, or has hardly any of it."""
    decoded_packets = heard.num_packets - heard.failed_packets
    most = _MOST_BESIDE_FAILED if heard.failed_packets else _MOST_BY_CHANCE
    is_short = form in _TOLD_BY_SYNC_WORDS and 0 < decoded_packets <= most
    return is_short or heard.failed_packets > _MOST_FAILED * heard.num_packets


def hardly_audio(codec: str) -> NotAudio:
    """The error for that."""
    return NotAudio(
        f"hardly any of its {codec} audio could be decoded: the file is damaged, encrypted or of "
        "another kind; send another copy"
    )


def allows_pauses(codec: str) -> bool:
    """Whether its encoders leave packets out where nobody speaks."""
    return codec in _CODECS_WITH_PAUSES


def delay_seconds(codec: str, sample_rate_hz: int) -> float:
    """What its encoders and decoders take off a track, at most."""
    return _CODEC_DELAY_SAMPLES / max(1, sample_rate_hz) if codec in _CODECS_WITH_DELAY else 0.0


def track_of(fd: int, container: InputContainer, stream: AudioStream) -> Track:
    """What the container at `fd` states of a track."""
    codec = stream.codec_context
    in_avi = container.format.name == "avi"  # only there it is needed
    return Track(
        form=container.format.name,
        seconds=_declared_seconds(fd, container, stream),
        num_bytes=sum(entry.size for entry in stream.index_entries) if in_avi else None,
        is_alone=len(container.streams) == 1,
        delay_seconds=delay_seconds(codec.name, codec.sample_rate),
    )


def _declared_seconds(fd: int, container: InputContainer, stream: AudioStream) -> float | None:
    """Length of this track; None where the container does not state it."""
    form, codec, tick = container.format.name, stream.codec_context, float(stream.time_base or 0)
    seconds = None
    if form == "mp3":
        seconds = mp3_seconds(fd, codec.name, codec.sample_rate)
    elif form == "avi":
        seconds = stream.frames * tick or None
    elif form in LENGTH_OF_TRACK and not (form == MP4 and is_fragmented(fd)):
        seconds = None if stream.duration is None else stream.duration * tick or None
    elif form == "flv":
        seconds = flv_seconds(fd)
    elif form == "mpc8":
        count = num_samples(fd)
        seconds = None if count is None else count / stream.codec_context.sample_rate
    elif form == MATROSKA:
        seconds = parse_seconds(stream.metadata.get("DURATION", ""))  # of mkvmerge and FFmpeg
        if seconds is None and container.duration is not None and len(container.streams) == 1:
            seconds = container.duration / av.time_base
    return seconds


def flv_seconds(fd: int) -> float | None:
    """Length of an FLV file of sound alone by its metadata; live ones leave it out, or say 0.

    Source: Adobe, "Flash Video File Format Specification", version 10.1, annex E.2 and E.5.
    """
    head, found, rest = os.pread(fd, _FLV_HEAD_BYTES, 0).partition(_FLV_DURATION)
    if not found or head[_FLV_TRACKS_OFFSET] != _FLV_SOUND or len(rest) < struct.calcsize(">d"):
        return None
    (seconds,) = struct.unpack_from(">d", rest)
    return float(seconds) if 0 < seconds < math.inf else None


def mp3_seconds(fd: int, codec: str, sample_rate_hz: int) -> float | None:
    """Length of an MP3 file by the count in its first frame."""
    count = find_count(fd)
    if count is None or count.frames is None or codec not in _SAMPLES_PER_FRAME:
        return None
    samples = _SAMPLES_PER_FRAME[codec] // (1 + (sample_rate_hz < _HALF_FRAMES_BELOW_HZ))
    return count.frames * samples / sample_rate_hz


def parse_seconds(clock: str) -> float | None:
    """Seconds of `00:00:04.023000000`; None for anything else."""
    try:
        hours, minutes, seconds = clock.split(":")
        return 3_600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
