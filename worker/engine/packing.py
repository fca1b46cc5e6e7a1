"""Putting segments on a tape: their samples as they are, in one copy, and then layer norm.

Numpy gives up Python's lock for each of many copies, and waits for it after each; torch copies all
of them in one call, outside the lock. Converting and normalizing is for where the tape is.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.clip import FRAME_SAMPLES, FRAME_STRIDE
from worker.tape import Segment, TapeLayout

# Of samples that are mapped or part of an object: nothing here writes to them.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")

_BEYOND_SAMPLES = FRAME_SAMPLES - FRAME_STRIDE  # a frame sees so much of the next slot


def num_rows(slots: int) -> int:
    """Rows of 320 samples for so many slots: the last frame sees some of one more."""
    return slots + 1


def tape_memory(slots: int) -> int:
    """How many float32 the memory for a tape of so many slots has to hold."""
    return FRAME_STRIDE * num_rows(slots)


def pack(segments: Sequence[Segment], layout: TapeLayout, memory: Tensor) -> Tensor:
    """Copy the segments' samples into `memory`, float32 (at least `tape_memory`,).

    Returns the part of it that they take, (rows, 320): int16 where all of them are, else float32,
    with the values that they have as integers. Zeros lie between them. Raises ValueError where the
    layout is another's.
    """
    plain = all(segment.clip.samples.dtype == np.int16 for segment in segments)
    raw = memory.view(torch.int16) if plain else memory
    raw = raw[: tape_memory(layout.slots)]
    silence = torch.zeros(FRAME_STRIDE * layout.gap, dtype=raw.dtype)
    pieces: list[Tensor] = []
    between = silence
    for segment, _ in zip(segments, layout.frames, strict=True):
        pieces += between, torch.from_numpy(segment.clip.of(segment.window))
        between = silence[_BEYOND_SAMPLES:]
    written = FRAME_STRIDE * layout.used_slots + _BEYOND_SAMPLES
    torch.cat(pieces, out=raw[:written])
    raw[written:].zero_()
    for segment in segments:
        if segment.clip.forget is not None:
            segment.clip.forget()
    return raw.view(-1, FRAME_STRIDE)


def row_scales(segments: Sequence[Segment], layout: TapeLayout) -> NDArray[np.float32]:
    """For each row what `normalized` needs: float32 (3, rows), zero between the segments.

    What 1 as an integer stands for, the clip's mean, and what is left of it is multiplied by.
    """
    count = len(segments)
    values = np.zeros((3, 2 * count + 1))
    values[:, 1::2] = np.array(
        [(segment.clip.unit, segment.clip.mean, segment.clip.scale) for segment in segments]
    ).T
    lengths = np.empty(2 * count + 1, np.intp)
    lengths[::2] = layout.gap - 1
    lengths[0] = layout.gap
    lengths[1::2] = np.array(layout.frames) + 1
    lengths[-1] = layout.tail
    return np.repeat(values.astype(np.float32), lengths, axis=1)


def normalized(raw: Tensor, scales: Tensor, out: Tensor | None = None) -> Tensor:
    """Layer norm of each row of `pack`, by its column of `row_scales`: float32 (rows × 320,).

    Between segments it is zero, but for what is left of the row in which a last frame ends: no
    frame of a segment sees that.
    """
    unit, mean, scale = scales.unsqueeze(-1)  # (rows, 1) each
    tape = torch.mul(raw, unit, out=None if out is None else out.view(raw.shape))
    return tape.sub_(mean).mul_(scale).view(-1)
