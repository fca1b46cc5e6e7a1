"""The tape: segments of clips laid out one after another on one line of frame slots.

Each segment owns a gap and then one slot for each of its frames:

    |---- gap ----|-- frames --|---- gap ----|-- frames --|
           [tokens]                   [tokens]

A slot is 320 samples. The gap is silence to the convolutions, wide enough that no frame sees a
neighbour, and its last slots hold the segment's extra tokens for the transformer. So any number of
clips of any length fill one array without padding, and each gives what it gives alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.clip import FRAME_SAMPLES, FRAME_STRIDE, Clip, Samples, Window, frame_samples


@dataclass(frozen=True, slots=True)
class Segment:
    """One window of one clip, and whether its frames are wanted besides their mean."""

    clip: Clip
    window: Window
    keep_frames: bool = False


@dataclass(frozen=True, slots=True)
class TapeLayout:
    """Which slot of a tape belongs to which segment, in the order of the segments.

    `gap` is the number of slots before each segment's first frame, of which the last
    `extra_tokens` are its extra tokens; `frames` is the number of frames of each segment.
    """

    gap: int
    extra_tokens: int
    frames: tuple[int, ...]

    @property
    def slots(self) -> int:
        """Slots from the first gap to the last frame; there is no tail."""
        return sum(self.frames) + self.gap * len(self.frames)

    @property
    def num_samples(self) -> int:
        """Samples of the tape: the last frame sees 80 more than its slot."""
        return FRAME_STRIDE * self.slots + FRAME_SAMPLES - FRAME_STRIDE

    def frame_slots(self) -> list[slice]:
        """The slots of each segment's frames."""
        slots = []
        stop = 0
        for frames in self.frames:
            start = stop + self.gap
            stop = start + frames
            slots.append(slice(start, stop))
        return slots

    def attention_slots(self) -> list[slice]:
        """The slots of each segment that see each other: its extra tokens, then its frames."""
        return [slice(s.start - self.extra_tokens, s.stop) for s in self.frame_slots()]

    def gap_mask(self) -> NDArray[np.bool_]:
        """Bool (slots,), true where a slot holds no frame."""
        mask = np.ones(self.slots, dtype=np.bool_)
        for slots in self.frame_slots():
            mask[slots] = False
        return mask

    def token_slots(self) -> NDArray[np.int64]:
        """Int64 (segments × extra_tokens,), the slots of the extra tokens, segment by segment."""
        starts = np.array([s.start for s in self.attention_slots()], dtype=np.int64)
        return (starts[:, None] + np.arange(self.extra_tokens)).ravel()

    def write(self, segments: Sequence[Segment], out: Samples) -> None:
        """Write the segments' normalized samples to `out`, float32 (num_samples,)."""
        out.fill(0.0)
        for segment, slots in zip(segments, self.frame_slots(), strict=True):
            first = FRAME_STRIDE * slots.start
            samples = out[first : first + frame_samples(slots.stop - slots.start)]
            segment.clip.write(segment.window, samples)


def num_fitting(segments: Sequence[Segment], *, gap: int, tape_slots: int) -> int:
    """How many of the first segments fill one tape; at least one, however long it is."""
    used = 0
    for count, segment in enumerate(segments):
        used += gap + segment.window.frames
        if used > tape_slots and count:
            return count
    return len(segments)
