"""The lowest and highest sample of each moment: what a waveform is drawn of. Free of numpy.

The form is audiowaveform's, version 2, of 8 bits; source: audiowaveform 1.10, doc/DataFormat.md.
"""

import struct
from collections.abc import Iterable

_HEADER = struct.Struct("<iIiiII")  # version, flags, samples a second and a bin, bins, channels
_VERSION, _EIGHT_BITS = 2, 1
FIRST_BIN_SAMPLES = 160
MOST_BINS = 65_536  # of a channel, 10 ms each up to eleven minutes; of longer audio they double
_ALL = bytes(range(256))
_SIGNED = bytes(value ^ 0x80 for value in range(256))


def most_peaks_bytes(channels: int) -> int:
    """The most that peaks of so many channels can hold."""
    return _HEADER.size + 2 * MOST_BINS * channels


class Peaks:
    """Peaks of channels that come piece by piece. Not thread-safe."""

    def __init__(self, channels: int, sample_rate_hz: int) -> None:
        """All channels are of one length, and given as many samples each time."""
        self._sample_rate_hz = sample_rate_hz
        self._channels = [_Channel() for _ in range(channels)]

    def push(self, pieces: Iterable[bytes]) -> None:
        """Take more of each channel: unsigned 8-bit samples, 128 is silence."""
        for channel, piece in zip(self._channels, pieces, strict=True):
            channel.push(piece)

    def finish(self) -> bytes:
        """All of them, the last bin maybe short: header, and for each bin all channels' two."""
        for channel in self._channels:
            channel.finish()
        first, count = self._channels[0], len(self._channels)
        bins = len(first.lowest)
        data = bytearray(2 * bins * count)
        for number, channel in enumerate(self._channels):
            data[2 * number :: 2 * count] = channel.lowest.translate(_SIGNED)
            data[2 * number + 1 :: 2 * count] = channel.highest.translate(_SIGNED)
        rate_hz = self._sample_rate_hz
        head = _HEADER.pack(_VERSION, _EIGHT_BITS, rate_hz, first.bin_samples, bins, count)
        return head + bytes(data)


class _Channel:
    """Bins of one channel, which become twice as long whenever there are too many."""

    def __init__(self) -> None:
        self.bin_samples = FIRST_BIN_SAMPLES
        self.lowest, self.highest = bytearray(), bytearray()
        self._rest = b""

    def push(self, piece: bytes) -> None:
        rest, at = self._rest + piece, 0
        while at + self.bin_samples <= len(rest):
            self._add(rest[at : at + self.bin_samples])
            at += self.bin_samples
            if len(self.lowest) == MOST_BINS:
                self._double()
        self._rest = rest[at:]

    def finish(self) -> None:
        if self._rest:
            self._add(self._rest)
            self._rest = b""

    def _add(self, samples: bytes) -> None:
        # Eight times as fast as min() and max(), which look at one sample after another in Python:
        # the values that are not there, and then those that are, in order.
        present = _ALL.translate(None, _ALL.translate(None, samples))
        self.lowest.append(present[0])
        self.highest.append(present[-1])

    def _double(self) -> None:
        self.lowest = bytearray(map(min, self.lowest[0::2], self.lowest[1::2]))
        self.highest = bytearray(map(max, self.highest[0::2], self.highest[1::2]))
        self.bin_samples *= 2
