"""What a decode process makes of samples that are decoded: peaks and a preview. Free of numpy."""

import os
from collections.abc import Iterator

from av.audio.resampler import AudioResampler

from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.peaks import Peaks
from worker.audio.preview import encoded, frame_of
from worker.audio.protocol import Render

PEAKS, PREVIEW = "peaks", "preview"
_PIECE_SAMPLES = 32 * 576  # of each lane


def rendered(fd: int, order: Render) -> Iterator[bytes]:
    """What was ordered of the samples behind `fd`, piece by piece. Raises ValueError."""
    if order.what == PEAKS:
        yield _peaks(fd, order)
    elif order.what == PREVIEW:
        pieces = _pieces(fd, order)
        yield from encoded(pieces, order.num_samples, order.lanes, order.sample_rate_hz)
    else:
        raise ValueError(f"{order.what!r} cannot be made of samples")


def _peaks(fd: int, order: Render) -> bytes:
    """Of each channel; of one lane, of that. Each sample is `round(128 x)`, clipped to 8 bits."""
    lanes = order.lanes
    channels = range(1, lanes) if lanes > 1 else range(1)
    peaks = Peaks(len(channels), order.sample_rate_hz)
    # Every sample by itself, whichever lane it is of: one channel will do.
    resampler = AudioResampler("u8", "mono", order.sample_rate_hz)
    for piece in _pieces(fd, order):
        for frame in resampler.resample(frame_of(piece, "mono", order.sample_rate_hz)):
            samples = bytes(memoryview(frame.planes[0])[: frame.samples])
            peaks.push(samples[channel::lanes] for channel in channels)
    return peaks.finish()


def _pieces(fd: int, order: Render) -> Iterator[bytes]:
    """The samples as bytes, some of all lanes at a time."""
    total = order.num_samples * SAMPLE_BYTES
    size = _PIECE_SAMPLES * order.lanes * SAMPLE_BYTES
    for at in range(0, total, size):
        piece = os.pread(fd, min(size, total - at), at)
        if len(piece) < min(size, total - at):
            raise ValueError("there are fewer samples than were told of")
        yield piece
