"""Long audio that comes at its own rate: resampled part by part, as a decode process hands it on.

What is kept is at the rate of the model, so it takes the room that it always took.
"""

import mmap
from typing import Protocol

import numpy as np

from worker.audio.pcm import SAMPLE_BYTES, Memory, PartWriter
from worker.audio.rates import Form, num_resampled
from worker.audio.spool import spool_failed
from worker.audio.spooling import Spooling
from worker.audio.waveform import kind_of
from worker.clip import SAMPLE_RATE_HZ, Pcm, Samples


class Stream(Protocol):
    """One recording on its way to another rate. Not thread-safe."""

    def push(self, samples: Pcm, *, last: bool) -> Samples:
        """Take more of it, and give what can be told by now: after the last, all."""


class StartStream(Protocol):
    """Whoever resamples."""

    def stream(self, sample_rate_hz: int) -> Stream:
        """A stream from that rate to the model's."""


class Resampled:
    """What has come of one recording. Not thread-safe; up to a window it is in memory."""

    def __init__(self, stream: Stream, form: Form, spooling: Spooling, window_samples: int) -> None:
        """Take no room before there is more than a window. Raises OSError."""
        self.num_samples = 0  # that have come, at their own rate
        self.form = form
        self._stream = stream
        self._spooling = spooling
        self._window_samples = window_samples
        self._expected_samples = 0
        self._memory = Memory()
        self._writer = PartWriter(window_samples * SAMPLE_BYTES, self._memory.fd, self._hand_over)

    @property
    def seconds(self) -> float:
        """How much has come."""
        return self.num_samples / self.form.sample_rate_hz

    def append(self, fd: int, num_samples: int, *, expected_samples: int, last: bool) -> bool:
        """Take the samples behind `fd`; where there is no place, `spooling` knows why."""
        rate_hz = self.form.sample_rate_hz
        self._expected_samples = num_resampled(expected_samples, rate_hz, SAMPLE_RATE_HZ)
        self.num_samples += num_samples
        resampled = self._stream.push(_mapped(fd, num_samples, self.form), last=last)
        try:
            self._writer.write(resampled.tobytes())
        except _NoPlace:
            return False
        return True

    def finish(self) -> tuple[int, int] | None:
        """The memory of the last samples, and how many it holds; None where there was no place."""
        try:
            num_samples = self._writer.finish() // SAMPLE_BYTES
        except _NoPlace:
            return None
        return self._memory.fd, num_samples

    def close(self) -> None:
        """Give the memory back; a map of it goes on."""
        self._memory.close()

    def _hand_over(self) -> int:
        """Put a full memory into the spool. Raises _NoPlace."""
        spooling, num_samples = self._spooling, self._window_samples
        expected_samples = self._expected_samples
        if not spooling.append(self._memory.fd, num_samples, expected_samples=expected_samples):
            raise _NoPlace
        try:
            self._memory.renew()
        except OSError as error:
            spooling.error = spool_failed("memory", error)
            raise _NoPlace from error
        return self._memory.fd


class _NoPlace(Exception):
    """There is no place for it now, or never."""


def _mapped(fd: int, num_samples: int, form: Form) -> Pcm:
    """The samples behind `fd`, which nobody can change or cut short any more."""
    kind = kind_of(form)
    if not num_samples:
        return np.empty(0, kind)
    pcm = mmap.mmap(fd, num_samples * form.sample_bytes, access=mmap.ACCESS_READ)
    samples: Pcm = np.frombuffer(pcm, kind, num_samples)
    return samples
