"""What ffmpeg says of a file while it decodes it, line by line, at its level `verbose`.

It says less than its libraries: how many packets it left out, but not where, and how far the time
stamps went. What it quotes of the file itself may say anything: it decides on warnings alone.
"""

import re
from dataclasses import dataclass, field

from worker.audio.encryption import require_open
from worker.audio.extent import MP4, is_fragmented
from worker.audio.formats import counts_alike
from worker.audio.mp3 import has_inner_tag
from worker.audio.wholeness import (
    LENGTH_OF_TRACK,
    STEP_SECONDS,
    Heard,
    Track,
    allows_pauses,
    delay_seconds,
    flv_seconds,
    hardly_audio,
    is_by_chance,
    mp3_seconds,
    parse_seconds,
)

_MAX_LINE_BYTES = 4_096
_COUNTED = ("aac", "ac3", "amr", "mp3")  # whose time stamps count packets
_CLOCK_SECONDS = 0.02  # what it rounds to, and half a frame
_CLOCK = r"(\d+:\d\d:\d\d(?:\.\d+)?)"
_INPUT = re.compile(r"^\[info\] Input #0, (\S+), from ")
_WHOLE = re.compile(rf"^\[info\]   Duration: {_CLOCK}")
_STREAM = re.compile(r"^\[info\]   Stream #0:(\d+)(?:\[\w+\])?(?:\(\w+\))?: (\w+): (\w+)")
_SAID = re.compile(r"^\[info\]       (\w+) *: ")
_RATE = re.compile(r", (\d+) Hz, ([^,]+)")  # and the layout of its channels
_TAGGED = re.compile(rf"^\[info\]       DURATION        : {_CLOCK}")
_READ = re.compile(r"Input stream #0:\d+ \(audio\): (\d+) packets read \((\d+) bytes\)")
_FAILED = re.compile(r"(\d+) decode errors")
_TIME = re.compile(rf"^\[info\] size=.* time={_CLOCK}")
_COMPLAINT = re.compile(r"\[(?:error|fatal)\] (.+)")


@dataclass(slots=True)
class _Stream:
    kind: str
    codec: str
    sample_rate_hz: int
    layout: str
    said: list[str] = field(default_factory=list)  # names of what is said of it
    seconds: float | None = None  # where the container states it of the one


@dataclass(slots=True)
class Report:
    """One run; `status` is how it ended. `track` is which of the audio tracks it was to decode."""

    track: int = 0
    status: int = 0
    complaint: str = ""  # the last line that was one
    has_no_track: bool = False  # there are not so many
    _form: str = ""
    _whole_seconds: float | None = None
    _streams: list[_Stream] = field(default_factory=list)
    _heads_output: bool = False
    _heard: Heard = field(default_factory=Heard)
    _rest: bytes = b""

    def take(self, part: bytes) -> None:
        """Read more of its stderr."""
        *lines, rest = (self._rest + part).split(b"\n")
        self._rest = rest[-_MAX_LINE_BYTES:]
        for line in lines:
            self._line(line[:_MAX_LINE_BYTES].decode(errors="replace"))

    @property
    def has_opened(self) -> bool:
        """Whether the container was understood."""
        return bool(self._form)

    @property
    def sample_rate_hz(self) -> int | None:
        """By the header, where the track is there."""
        return None if self._audio is None else self._audio.sample_rate_hz

    @property
    def counts_alike(self) -> bool:
        """Whether its channels are to be mixed in equal parts, as far as that is known by now."""
        audio = self._audio if self._heads_output else None
        return audio is not None and audio.layout != "" and counts_alike(audio.layout)

    def require_sound(self, fd: int, seconds: float) -> None:
        """Raise NotAudio for what is no audio to anybody, of which `seconds` came."""
        if (audio := self._audio) is not None:
            require_open(fd, self._form, audio.said)
            self._heard.seconds = seconds
            if seconds and is_by_chance(self._form, self._heard):
                raise hardly_audio(audio.codec)

    def evidence(self, fd: int, seconds: float) -> tuple[Track, Heard]:
        """What the container at `fd` states, and what was heard, of which `seconds` came."""
        audio, heard = self._audio, self._heard
        codec, rate_hz = (audio.codec, audio.sample_rate_hz) if audio else ("", 0)
        heard.seconds = seconds
        step_seconds = None if allows_pauses(codec) else STEP_SECONDS.get(self._form)
        skipped_seconds = heard.reached_seconds - seconds
        # One that failed is in the middle where the stamps go on without it, or it is a tag there.
        heard.has_holes = (
            heard.failed_packets > 1
            or (step_seconds is not None and skipped_seconds > step_seconds + _CLOCK_SECONDS)
            or (self._is_one_lost_inside(skipped_seconds) and not has_inner_tag(fd))
        )
        track = Track(
            form=self._form,
            seconds=self._declared_seconds(fd, audio),
            num_bytes=None,
            is_alone=len(self._streams) == 1,
            delay_seconds=delay_seconds(codec, rate_hz),
        )
        return track, heard

    def _is_one_lost_inside(self, skipped_seconds: float) -> bool:
        return self._heard.failed_packets == 1 and self._form in _COUNTED and skipped_seconds > 0

    def _declared_seconds(self, fd: int, audio: _Stream | None) -> float | None:
        if audio is not None and self._form == "mp3":
            return mp3_seconds(fd, audio.codec, audio.sample_rate_hz)
        if audio is not None and audio.seconds is not None:
            return audio.seconds
        if self._form == "flv":
            return flv_seconds(fd)
        is_stated = self._form in LENGTH_OF_TRACK and len(self._streams) == 1
        if not is_stated or (self._form == MP4 and is_fragmented(fd)):
            return None
        return self._whole_seconds

    @property
    def _audio(self) -> _Stream | None:
        sounds = [stream for stream in self._streams if stream.kind == "Audio"]
        return sounds[self.track] if self.track < len(sounds) else None

    def _line(self, line: str) -> None:
        if found := _INPUT.match(line):
            self._form = self._form or found[1]
        elif line.startswith(("[info] Stream mapping", "[info] Output #0")):
            self._heads_output = True
        elif not self._heads_output and line.startswith("[info] "):
            self._head(line)
        elif found := _READ.search(line):
            self._heard.num_packets, self._heard.num_bytes = int(found[1]), int(found[2])
            if failed := _FAILED.search(line):
                self._heard.failed_packets = int(failed[1])
        elif found := _TIME.match(line):
            self._heard.reached_seconds = parse_seconds(found[1]) or 0.0
        else:
            self._trouble(line)

    def _head(self, line: str) -> None:
        """A line of what it says of the input."""
        if found := _WHOLE.match(line):
            self._whole_seconds = parse_seconds(found[1])
        elif found := _STREAM.match(line):
            rate = _RATE.search(line)
            rate_hz, layout = (int(rate[1]), rate[2]) if rate else (0, "")
            self._streams.append(_Stream(found[2], found[3], rate_hz, layout))
        elif self._streams and (found := _TAGGED.match(line)):
            self._streams[-1].seconds = parse_seconds(found[1])
        elif self._streams and (found := _SAID.match(line)):
            self._streams[-1].said.append(found[1])

    def _trouble(self, line: str) -> None:
        """A line of what went wrong, or of what is nothing to us."""
        if found := _COMPLAINT.search(line):
            self.complaint = found[1].strip()
        self.has_no_track |= "matches no streams" in line
        self._heard.ended_in_error |= "Error during demuxing" in line
        # Of a transport stream it may be any packet; others are short where the file ends.
        is_partial = "corrupt input packet in stream" in line
        self._heard.is_cut |= is_partial and self._form != "mpegts"
