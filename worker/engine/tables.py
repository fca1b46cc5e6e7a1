"""What the kernels have to know of a tape: which slots belong to whom, in one tensor of int32."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.model import kernels
from worker.model.model import Model
from worker.tape import TapeLayout


class Tables:
    """The tables of tapes of one length: roles, edges of segments, blocks of attention."""

    def __init__(self, model: Model, slots: int) -> None:
        self.segments = max_segments(slots, model.config.gap)
        self._slots = slots
        self._block = kernels.block_size(model.dtype, model.device, slots)
        self._blocks = kernels.most_blocks(slots, self.segments, self._block)

    @property
    def size(self) -> int:
        """Numbers in all tables."""
        return self._slots + 2 * self.segments + 1 + 3 * self._blocks

    def of(self, layout: TapeLayout) -> NDArray[np.int32]:
        """The tables of a layout: int32 (`size`,)."""
        blocks = kernels.attention_blocks(layout, self._block, self._blocks)
        return np.concatenate([layout.roles(), edges(layout, self.segments).ravel(), blocks])

    def parts(self, tables: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views of int32 (`size`,): roles (slots,), edges (2, segments), blocks (the rest,)."""
        sizes = [self._slots, 2 * self.segments, 1 + 3 * self._blocks]
        roles, runs, blocks = torch.split(tables, sizes)
        return roles, runs.view(2, self.segments), blocks


def max_segments(slots: int, gap: int) -> int:
    """How many segments at most fit a tape: each has a gap and at least one frame."""
    return slots // (gap + 1)


def edges(layout: TapeLayout, segments: int) -> NDArray[np.int32]:
    """Where the frames of each segment begin, and where they end.

    Int32 (2, segments); 0 for segments that are not there.
    """
    found = np.zeros((2, segments), dtype=np.int32)
    found[:, : len(layout.frames)] = layout.frame_edges()
    return found
