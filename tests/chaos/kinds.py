"""The kinds of jobs, what must become of each, and the objects they name."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from storage.wire.messages import Status
from tests.support.audio_files import encode, pcm16, wav

SAMPLE_RATE_HZ = 16_000
KILL_DECODER_MARK = b"chaos: kill the decode process\n"
_PLAIN_SECONDS = (0.05, 0.12, 0.2, 0.3, 0.45, 0.6, 0.8, 1.2)

End = tuple[Status, str]  # terminal status, error code ('' for none)


class Kind(StrEnum):
    """What a job is like."""

    GOOD = "good"  # a short plain WAV
    ENCODED = "encoded"  # MP3 or Opus: it goes through the decode processes
    FLAKY = "flaky"  # the store fails its first fetches
    SLOW = "slow"  # the store sends its object slowly
    MISSING = "missing"
    CORRUPT = "corrupt"
    INVALID = "invalid"  # a field that cannot be understood
    OVERSIZED = "oversized"  # an entry that is too large to be read
    LATE = "late"  # its deadline has passed when it is enqueued
    TIGHT = "tight"  # its deadline passes about when it is done
    CANCELLED = "cancelled"  # somebody cancels it in mid-flight
    KILL_DECODER = "kill-decoder"
    KILL_WORKER = "kill-worker"


DONE: End = (Status.DONE, "")
EXPIRED: End = (Status.EXPIRED, "deadline_exceeded")
ENDS: Mapping[Kind, frozenset[End]] = {
    Kind.GOOD: frozenset({DONE}),
    Kind.ENCODED: frozenset({DONE}),
    Kind.FLAKY: frozenset({DONE}),
    Kind.SLOW: frozenset({DONE}),
    Kind.MISSING: frozenset({(Status.FAILED, "object_not_found")}),
    Kind.CORRUPT: frozenset({(Status.FAILED, "not_audio")}),
    Kind.INVALID: frozenset({(Status.FAILED, "invalid_job")}),
    Kind.OVERSIZED: frozenset({(Status.FAILED, "invalid_job")}),
    Kind.LATE: frozenset({EXPIRED}),
    Kind.TIGHT: frozenset({DONE, EXPIRED}),
    Kind.CANCELLED: frozenset({DONE, (Status.CANCELLED, "")}),
    # Alone, the other decoder survives it, and finds that it is not audio. Its crashes use up its
    # tries, and the last of them may meet a store that fails.
    Kind.KILL_DECODER: frozenset(
        {
            (Status.DEAD, "decode_crashed"),
            (Status.DEAD, "storage_unavailable"),
            (Status.FAILED, "not_audio"),
        }
    ),
    Kind.KILL_WORKER: frozenset({(Status.DEAD, "crash_loop")}),
}
POISONOUS = frozenset({Kind.KILL_DECODER, Kind.KILL_WORKER})


def clips() -> dict[str, bytes]:
    """The good objects by key: tones and noise, no two alike, the same every time."""
    plain = {
        f"plain-{number}.wav": wav(pcm16(_sound(seconds, number)))
        for number, seconds in enumerate(_PLAIN_SECONDS)
    }
    return plain | {
        "sound.mp3": _encoded(_sound(0.5, 20), container="mp3", codec="libmp3lame"),
        "sound.opus": _encoded(_sound(0.7, 21), container="ogg", codec="libopus"),
    }


def bad_objects() -> dict[str, bytes]:
    """Objects that are no audio, and the one that kills its decode process."""
    page = b"<html><body>502 Bad Gateway</body></html>\n"
    noise = np.random.default_rng(5).integers(0, 256, 4000, np.uint8).tobytes()
    return {
        "corrupt-page.mp3": page * 20,
        "corrupt-noise.wav": b"RIFF" + noise,
        "corrupt-empty.wav": b"",
        "kill-decoder.mp3": KILL_DECODER_MARK * 20,
    }


def write_objects(bucket: Path, aliases: Mapping[str, str]) -> None:
    """Fill the bucket; `aliases` gives further keys to the same objects."""
    bucket.mkdir(parents=True)
    for key, data in {**clips(), **bad_objects()}.items():
        (bucket / key).write_bytes(data)
    for key, target in aliases.items():
        (bucket / key).hardlink_to(bucket / target)


def _sound(seconds: float, seed: int) -> NDArray[np.float32]:
    """A tone in noise, float32 (num_samples,)."""
    count = int(seconds * SAMPLE_RATE_HZ)
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * (120 + 60 * seed) * np.arange(count) / SAMPLE_RATE_HZ)
    return (0.3 * wave + 0.1 * rng.standard_normal(count)).astype(np.float32)


def _encoded(samples: NDArray[np.float32], *, container: str, codec: str) -> bytes:
    return encode(samples, SAMPLE_RATE_HZ, container=container, codec=codec)
