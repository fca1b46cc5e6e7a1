"""What a file may cost to decode. Free of numpy: decode processes import it."""

from dataclasses import dataclass
from pathlib import Path

from storage.errors import AudioTooLong, NoAudioStream, NotAudio

_MIN_SAMPLE_RATE_HZ = 1_000  # below it, a single packet of a hostile file is hours of audio
_MAX_SAMPLE_RATE_HZ = 768_000  # above it, the filter that resamples takes gigabytes
TIMEOUT_PER_DECODED_SECOND = 0.1
SPOOL_BYTES = 4 * 1024**3  # 18 hours of audio


def sample_rate_is_sound(sample_rate_hz: int) -> bool:
    """Whether it can be that of a recording."""
    return _MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= _MAX_SAMPLE_RATE_HZ


def require_sound_rate(sample_rate_hz: int) -> None:
    """Raises NotAudio for a sample rate that cannot be that of a recording."""
    if not sample_rate_is_sound(sample_rate_hz):
        raise NotAudio(
            f"its sample rate of {sample_rate_hz} Hz cannot be that of sound: the header is wrong"
        )


def empty_object() -> NotAudio:
    """The error for an object without a byte."""
    return NotAudio("the object is empty: 0 bytes")


def no_audio_stream() -> NoAudioStream:
    """The error for a file that has other things than audio."""
    return NoAudioStream("the file has no audio track: send one that has")


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Limits of one decode; times in seconds of audio unless the name says otherwise."""

    max_audio_seconds: float  # longer is refused as soon as that much is decoded
    window_seconds: float  # decoded audio up to this long stays in memory, longer goes to the spool
    timeout_seconds: float  # wall time, plus 0.1 s for each second of audio decoded so far
    memory_bytes: int  # address space of one decode process
    spool_dir: Path
    spool_bytes: int = SPOOL_BYTES  # the most that may lie there at once

    def allowed_seconds(self, decoded_seconds: float) -> float:
        """Wall time a decode may take that has `decoded_seconds` of audio to show for it.

        How long the audio is, nobody knows beforehand: a header may lie. So time is earned.
        """
        return self.timeout_seconds + TIMEOUT_PER_DECODED_SECOND * decoded_seconds


def too_long(max_audio_seconds: float) -> AudioTooLong:
    """The error for audio that goes past the limit."""
    return AudioTooLong(
        f"the audio is longer than {max_audio_seconds:g} s: split it, or raise "
        "EMO_MAX_AUDIO_SECONDS"
    )
