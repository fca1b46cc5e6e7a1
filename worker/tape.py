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

from worker.clip import FRAME_SAMPLES, FRAME_STRIDE, Clip, Window

# More slots than this bring no more speed, only latency: 5 min of audio on a GPU; on a CPU 20 s for
# each thread, in as much time however many there are, and 40 s for one. Small enough, on both, that
# memory seldom decides.
MAX_TAPE_SLOTS_GPU = 16_384
_LEAST_MAX_SLOTS_CPU, _SLOTS_A_THREAD = 2_048, 1_024


def max_tape_slots_cpu(threads: int) -> int:
    """The longest tape that is of use to so many threads.

    They share it out by whole clips: of few clips a thread, most would wait for the longest.
    """
    return max(_LEAST_MAX_SLOTS_CPU, _SLOTS_A_THREAD * threads)


@dataclass(frozen=True, slots=True)
class Segment:
    """One window of one clip, and what is wanted of its frames besides their mean.

    All of them, or for a timeline what the output layer makes of each.
    """

    clip: Clip
    window: Window
    keep_frames: bool = False
    keep_logits: bool = False

    @property
    def keeps(self) -> bool:
        """Whether its frames are to be brought from the device."""
        return self.keep_frames or self.keep_logits


@dataclass(frozen=True, slots=True)
class TapeLayout:
    """Which slot of a tape belongs to which segment, in the order of the segments.

    `gap` is the number of slots before each segment's first frame, of which the last
    `extra_tokens` are its extra tokens; `frames` is the number of frames of each segment; `tail`
    is what no segment uses behind the last of them.
    """

    gap: int
    extra_tokens: int
    frames: tuple[int, ...]
    tail: int = 0

    @property
    def used_slots(self) -> int:
        """Slots from the first gap to the last frame."""
        return sum(self.frames) + self.gap * len(self.frames)

    @property
    def slots(self) -> int:
        """All slots, the tail counted in."""
        return self.used_slots + self.tail

    @property
    def num_samples(self) -> int:
        """Samples of the tape."""
        return num_samples(self.slots)

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

    def roles(self) -> NDArray[np.int32]:
        """Int32 (slots,): what a slot holds.

        0 for a frame, −1 − i for extra token i, −1 − `extra_tokens` for what belongs to no segment.
        """
        place = np.arange(self.slots, dtype=np.int32) - self._of_runs(self._starts())
        roles: NDArray[np.int32] = np.maximum(-1 - place, -1 - self.extra_tokens)
        roles[place >= self.extra_tokens] = 0
        roles[~self._seen()] = -1 - self.extra_tokens
        return roles

    def frame_edges(self) -> NDArray[np.int32]:
        """Int32 (2, segments): where the frames of each segment begin, and where they end."""
        frames = np.array(self.frames, np.int32)
        stops = np.cumsum(frames) + self.gap * np.arange(1, len(frames) + 1)
        return np.stack([stops - frames, stops]).astype(np.int32)

    def _starts(self) -> NDArray[np.int32]:
        """Int32 (segments,): the first slot of each segment that others of it see."""
        starts: NDArray[np.int32] = self.frame_edges()[0] - np.int32(self.extra_tokens)
        return starts

    def _runs(self) -> NDArray[np.intp]:
        """Lengths of what belongs to nobody and of what does, in turn; the last is nobody's."""
        lengths = np.empty(2 * len(self.frames) + 1, np.intp)
        lengths[::2] = self.gap - self.extra_tokens
        lengths[1::2] = np.array(self.frames, np.intp) + self.extra_tokens
        lengths[-1] = self.tail
        return lengths

    def _seen(self) -> NDArray[np.bool_]:
        """Bool (slots,): whether a slot belongs to a segment."""
        return np.repeat(np.arange(2 * len(self.frames) + 1) % 2 == 1, self._runs())

    def _of_runs(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Int32 (slots,): each segment's value at its slots, 0 elsewhere."""
        all_values = np.zeros(2 * len(self.frames) + 1, np.int32)
        all_values[1::2] = values
        return np.repeat(all_values, self._runs())


def num_samples(slots: int) -> int:
    """Samples of a tape: its last frame sees 80 more than its slot."""
    return FRAME_STRIDE * slots + FRAME_SAMPLES - FRAME_STRIDE


def num_fitting(segments: Sequence[Segment], *, gap: int, tape_slots: int) -> int:
    """How many of the first segments fill one tape; at least one, however long it is."""
    used = 0
    for count, segment in enumerate(segments):
        used += gap + segment.window.frames
        if used > tape_slots and count:
            return count
    return len(segments)
