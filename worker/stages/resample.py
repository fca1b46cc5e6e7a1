"""Where a device resamples, between decode and normalize: recordings to 16 kHz."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from worker.clip import SAMPLE_RATE_HZ, Recording
from worker.engine.resampler import DeviceResampler


class Resample:
    """Resample what decode left at its own rate, all of a rate together. Thread-safe."""

    def __init__(self, resampler: DeviceResampler) -> None:
        self._resampler = resampler

    def __call__(self, recordings: Sequence[Recording]) -> list[Recording]:
        """The same recordings, one clip each, at 16 kHz, in their order."""
        made = list(recordings)
        of_rate: dict[int, list[int]] = defaultdict(list)
        for number, recording in enumerate(recordings):
            of_rate[recording.whole.sample_rate_hz].append(number)
        of_rate.pop(SAMPLE_RATE_HZ, None)
        for rate_hz, numbers in of_rate.items():
            clips = [recordings[number].whole.samples for number in numbers]
            for number, samples in zip(numbers, self._resampler(rate_hz, clips), strict=True):
                whole = recordings[number].whole
                at_16_khz = replace(whole, samples=samples, sample_rate_hz=SAMPLE_RATE_HZ)
                made[number] = replace(recordings[number], whole=at_16_khz)
        return made


def needs_resampling(recording: Recording) -> bool:
    """Whether it is at a rate of its own."""
    return recording.whole.sample_rate_hz != SAMPLE_RATE_HZ
