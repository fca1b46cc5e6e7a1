"""Which recordings leave a decode process at their own rate. Free of numpy: it imports this."""

import math
from dataclasses import dataclass

from worker.audio.limits import sample_rate_is_sound
from worker.audio.pcm import SAMPLE_BYTES

INT16_BYTES = 2

# What torchaudio's filters are made of, by its defaults; source: torchaudio 2.11,
# `_get_sinc_resample_kernel`: `lowpass_filter_width` and `rolloff`.
_ZEROS = 6
_ROLLOFF = 0.99
# Values in all filters of a rate. 11,025 Hz has 291,200, made in 20 ms and kept; what has more is
# hardly ever seen, and takes seconds and gigabytes where the rates have no divisor in common.
MOST_FILTER_VALUES = 300_000


@dataclass(frozen=True, slots=True)
class Form:
    """How samples lie: at which rate, as int16 (2 bytes) or float32 (4)."""

    sample_rate_hz: int
    sample_bytes: int

    def within(self, num_samples: int, sample_rate_hz: int) -> int:
        """How many of these are no longer than `num_samples` at another rate."""
        return num_samples * self.sample_rate_hz // sample_rate_hz

    def part_samples(self, window_samples: int, sample_rate_hz: int) -> int:
        """How many fill one memory: no more bytes, and no more time, than a window of float32."""
        room = window_samples * SAMPLE_BYTES // self.sample_bytes
        return max(1, min(room, self.within(window_samples, sample_rate_hz)))


def num_resampled(num_samples: int, from_hz: int, to_hz: int) -> int:
    """How many samples torchaudio makes of so many."""
    return -(-num_samples * to_hz // from_hz)


def is_left_to_device(from_hz: int, to_hz: int) -> bool:
    """Whether a device resamples it: not what needs none, is no sound, or has no few filters."""
    if from_hz == to_hz or not sample_rate_is_sound(from_hz):
        return False
    return num_filter_values(from_hz, to_hz) <= MOST_FILTER_VALUES


def num_filter_values(from_hz: int, to_hz: int) -> int:
    """How many values torchaudio's filters for these rates have: one filter for each phase."""
    divisor = math.gcd(from_hz, to_hz)
    step, phases = from_hz // divisor, to_hz // divisor
    return phases * (2 * filter_reach(from_hz, to_hz) + step)


def filter_reach(from_hz: int, to_hz: int) -> int:
    """Samples to each side that one of the others is made of."""
    divisor = math.gcd(from_hz, to_hz)
    step, phases = from_hz // divisor, to_hz // divisor
    return math.ceil(_ZEROS * step / (min(step, phases) * _ROLLOFF))
