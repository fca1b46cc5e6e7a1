"""Clips to send: noise, of the lengths that docs/performance.md states."""

import io
import random
import sys
import wave
from collections.abc import Iterator
from enum import StrEnum

SHORTEST_SECONDS, LONGEST_SECONDS = 1.5, 12.0
FIVE_SECONDS = 5.0
_SAMPLE_RATE_HZ = 16_000
_AMPLITUDE = 32  # of a byte of noise: peaks are at an eighth of full scale
# Both bytes of the sample, int16, that each byte of noise, int8, becomes.
_SIGNED = [*range(128), *range(-128, 0)]
_SAMPLES = [(_AMPLITUDE * value).to_bytes(2, sys.byteorder, signed=True) for value in _SIGNED]
_FIRST, _SECOND = (bytes(sample[at] for sample in _SAMPLES) for at in range(2))


class Lengths(StrEnum):
    """How long the clips are: 1.5 to 12 s, uniformly drawn, or 5 s each."""

    SHORT = "short"
    FIVE = "five"


def draw_clips(lengths: Lengths, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` WAV files, mono at 16 kHz, each with a name; a seed gives the same."""
    drawn = random.Random(f"lengths-{seed}")
    for number in range(count):
        short = lengths is Lengths.SHORT
        seconds = drawn.uniform(SHORTEST_SECONDS, LONGEST_SECONDS) if short else FIVE_SECONDS
        noise = random.Random(f"noise-{seed}-{number}").randbytes(round(seconds * _SAMPLE_RATE_HZ))
        yield f"{lengths}-{number}.wav", _wav(noise)


def _wav(noise: bytes) -> bytes:
    """A file of as many samples as there are bytes of noise."""
    samples = bytearray(2 * len(noise))
    samples[::2], samples[1::2] = noise.translate(_FIRST), noise.translate(_SECOND)
    with io.BytesIO() as file:
        with wave.open(file, "wb") as target:
            target.setnchannels(1)
            target.setsampwidth(2)
            target.setframerate(_SAMPLE_RATE_HZ)
            target.writeframes(samples)
        return file.getvalue()
