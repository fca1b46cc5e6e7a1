"""Attention on a tape: each segment by itself, with ALiBi between its frames.

Two ways. `SegmentMix` calls one attention for each segment; it needs nothing prepared, and is how a
CPU does it. `FlexMix` is one kernel for the whole tape, whose bias and boundaries are read from
tensors that stay where they are, so that it can be part of a captured graph.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from worker.model.alibi import AlibiBias, slopes

BLOCK_SLOTS = 64  # what a kernel of FlexAttention takes at a time, of queries and of keys
# By bytes of a number. What torch would choose for a Hopper GPU needs more registers than there
# are, and spills about 1 KB a thread in any dtype; these spill nothing.
KERNELS: dict[int, dict[str, Any]] = {
    2: {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3},
    4: {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 8, "num_stages": 2},
}
KERNEL: dict[str, Any] = {
    "BLOCKS_ARE_CONTIGUOUS": True,  # `FlexMix.refresh` gives each block of queries one run of keys
    "FORCE_USE_FLEX_ATTENTION": True,  # below 128 slots it would take its kernel for one query
}


def flex(
    q: Tensor, k: Tensor, v: Tensor, *, score_mod: Callable[..., Tensor], block_mask: BlockMask
) -> Tensor:
    """`flex_attention`, in which no value that is not finite leaves its own slot.

    What a slot does not see still is in its blocks, with weight 0; and 0 × NaN is NaN. So no such
    value goes in, and where there was one, its own slot is not finite.
    """
    options: Any = {**KERNEL, **KERNELS[q.dtype.itemsize]}
    finite = torch.nan_to_num(v, nan=0.0, posinf=0.0, neginf=0.0)
    out = flex_attention(
        q, k, finite, score_mod=score_mod, block_mask=block_mask, kernel_options=options
    )
    assert isinstance(out, Tensor)  # it would be more, were more asked for
    return out + (v - v)


class Mix(Protocol):
    """Lets the slots of a tape see each other."""

    def __call__(self, qkv: Tensor, layer: int) -> Tensor:
        """(slots, 3, heads, head_dim) to (slots, heads × head_dim)."""


class SegmentMix:
    """One attention a segment. `segments` are the slots of each that see each other."""

    def __init__(
        self, segments: Sequence[slice], bias: AlibiBias, *, scale: Tensor, dtype: torch.dtype
    ) -> None:
        self._segments = segments
        self._bias = bias
        self._scale = scale
        self._dtype = dtype
        self._longest = max(slots.stop - slots.start for slots in segments)

    def __call__(self, qkv: Tensor, layer: int) -> Tensor:
        """(slots, 3, heads, head_dim) to (slots, heads × head_dim); no segment's slots are 0."""
        bias = self._bias.of_layer(
            layer, scale=self._scale, length=self._longest, dtype=self._dtype
        )  # (heads, longest, longest)
        slots, _, heads, head_dim = qkv.shape
        mixed = qkv.new_zeros(slots, heads * head_dim)
        for run in self._segments:
            length = run.stop - run.start
            q, k, v = qkv[run].permute(1, 2, 0, 3)[:, None]  # 3 × (1, heads, length, head_dim)
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias[None, :, :length, :length]
            )  # (1, heads, length, head_dim)
            mixed[run] = out[0].transpose(0, 1).flatten(1)  # (length, heads × head_dim)
        return mixed


class FlexMix:
    """One attention for a tape of a fixed number of slots, whatever segments are on it.

    `spans` is int32 (2, slots) on the device: for each slot the first slot that it sees, and the
    one after the last (`TapeLayout.spans`). It may be filled anew between tapes; `refresh` then
    has to run before the first layer. `scale` is the network's `alibi_scale`. `flex` is
    `flex_attention`, as it is or compiled.
    """

    def __init__(
        self,
        spans: Tensor,
        *,
        scale: Tensor,
        heads: int,
        extra_tokens: int,
        flex: Callable[..., Tensor],
    ) -> None:
        slots = spans.shape[1]
        device = spans.device
        self._first_seen, self._after_last = spans
        self._extra_tokens = extra_tokens
        self._flex = flex
        slope = torch.tensor(slopes(heads), device=device)  # (heads,)
        # (layers or 1, heads)
        self._slopes = slope * scale[:, 0, :, 0, 0].clamp(min=0).float()
        first = torch.arange(0, slots, BLOCK_SLOTS, device=device)
        self._block_first = first  # (blocks,), the first slot of each
        self._block_last = (first + BLOCK_SLOTS - 1).clamp(max=slots - 1)
        blocks = len(first)
        self._keys = torch.arange(blocks, dtype=torch.int32, device=device)
        self._num_keys = torch.ones(1, 1, blocks, dtype=torch.int32, device=device)
        self._key_blocks = torch.zeros(1, 1, blocks, blocks, dtype=torch.int32, device=device)
        first_seen, after_last = self._first_seen, self._after_last

        def within(_b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            seen: Tensor = (k >= first_seen[q]) & (k < after_last[q])
            return seen

        self._mask = BlockMask.from_kv_blocks(
            self._num_keys,
            self._key_blocks,
            None,
            None,
            BLOCK_SIZE=BLOCK_SLOTS,
            mask_mod=within,
            seq_lengths=(slots, slots),
        )

    def refresh(self) -> None:
        """Work out anew which blocks see which, from the spans.

        A slot of a block sees no less than the block's first and last slot do: spans only grow
        along the tape. So each block of queries needs one run of blocks of keys.
        """
        first = self._first_seen[self._block_first] // BLOCK_SLOTS  # (blocks,)
        last = (self._after_last[self._block_last] - 1) // BLOCK_SLOTS
        self._num_keys[0, 0] = last - first + 1
        # Those past its number of keys are not read, but must name a block that is there.
        self._key_blocks[0, 0] = (first[:, None] + self._keys) % len(self._keys)

    def __call__(self, qkv: Tensor, layer: int) -> Tensor:
        """(slots, 3, heads, head_dim) to (slots, heads × head_dim)."""
        first_seen, extra_tokens = self._first_seen, self._extra_tokens
        slope = self._slopes[layer if len(self._slopes) > 1 else 0]  # (heads,)

        def alibi(score: Tensor, _b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            # The extra tokens, which come first, neither have nor give a bias.
            first_frame = first_seen[q] + extra_tokens
            among_frames = (q >= first_frame) & (k >= first_frame)
            biased: Tensor = score - torch.where(among_frames, (q - k).abs() * slope[h], 0.0)
            return biased

        q, k, v = qkv.permute(1, 2, 0, 3)[:, None]  # 3 × (1, heads, slots, head_dim)
        out = self._flex(q, k, v, score_mod=alibi, block_mask=self._mask)
        mixed: Tensor = out[0].transpose(0, 1).flatten(1)  # (slots, heads × head_dim)
        return mixed
