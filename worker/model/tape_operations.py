"""How a GPU computes the network on a tape: kernels of our own, and the libraries' products.

`GpuNetwork` is what all tapes share: weights as the kernels read them, and which of several exact
ways each part takes. `TapeOperations` is one tape's: which slot belongs to whom lies in memory that
does not move, so that all of it can be part of a captured graph.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.model import kernels
from worker.model.alibi import slopes
from worker.model.convolutions import FrontEndConv, PositionalConv
from worker.model.linear import Linear
from worker.model.model import Model

LEAST_FRONT_END_FRAMES = 128  # at a time, where memory is short; about 30 MB in 16 bits


@dataclass(frozen=True, slots=True)
class Ways:
    """How to compute what can be computed in several ways; all exact, which is fastest differs.

    `positional` is `kernel` or one of `PositionalConv.ways`, `front_end` is one of
    `FrontEndConv.ways`. `gelu` of a product is `apart`, or in its `epilogue`: the library's, of
    16-bit products alone, which is GELU by tanh and rounds once instead of twice.
    """

    positional: str
    front_end: str
    front_end_frames: int
    gelu: str

    @classmethod
    def usual(cls, dtype: torch.dtype) -> "Ways":
        """What a Hopper GPU is fastest with: docs/performance.md."""
        if dtype is torch.float32:
            return cls("convolution", "products", 1024, "apart")
        return cls("kernel", "convolution", 4096, "epilogue")


class GpuNetwork:
    """A model's weights as the kernels read them. Owned by the infer thread.

    Products in float32 are left to the libraries: kernels of our own would be far slower.
    """

    def __init__(self, model: Model) -> None:
        network = model.network
        config = model.config
        self.ways = Ways.usual(model.dtype)
        self.extra_tokens = config.num_extra_tokens
        slope = torch.tensor(slopes(config.num_heads), device=model.device)  # (heads,)
        scale = network.alibi_scale[:, 0, :, 0, 0].clamp(min=0).float()
        self.slopes = (slope * scale).contiguous()  # (layers or 1, heads)
        positional = list(network.positional)
        self.first = network.front_end[0]
        assert isinstance(self.first, FrontEndConv)
        self.first_taps = kernels.padded_taps(self.first.weight)
        self.positional_taps: dict[PositionalConv, Tensor] = {}
        if model.dtype is not torch.float32:
            for conv in positional:
                assert isinstance(conv, PositionalConv)
                taps = kernels.grouped_taps(conv.conv.weight, conv.groups)
                self.positional_taps[conv] = taps

    def spare_memory(self) -> None:
        """Take half as many frames of the front end at a time: its memory is no tape's own."""
        frames = max(LEAST_FRONT_END_FRAMES, self.ways.front_end_frames // 2)
        self.ways = replace(self.ways, front_end_frames=frames)


class TapeOperations:
    """The operations of one tape, its attention and its means. Not thread-safe.

    `roles` is int32 (slots,), `blocks` as `kernels.attention` reads them, `edges` (2, segments):
    where each segment's frames begin and end. What they hold may change from tape to tape.
    """

    def __init__(
        self, network: GpuNetwork, *, roles: Tensor, blocks: Tensor, edges: Tensor
    ) -> None:
        self._network = network
        self._blocks, self._edges = blocks, edges

    @property
    def front_end_frames(self) -> int | None:
        """Frames that the front end takes at a time."""
        return self._network.ways.front_end_frames

    def front_end(self, conv: FrontEndConv, x: Tensor) -> Tensor:
        """GELU(norm(conv(x))): (time, channels_in), contiguous, to (time_out, channels)."""
        norm = conv.norm
        if conv is self._network.first:
            return kernels.first_conv(
                x[:, 0],
                self._network.first_taps,
                norm.weight,
                norm.bias,
                norm.eps,
                kernel=conv.kernel,
                stride=conv.stride,
            )
        # Where rows do not overlap, it is a single product already.
        way = self._network.ways.front_end if conv.kernel > conv.stride else "products"
        y = conv.ways()[way](x)
        return kernels.norm_gelu(y.contiguous(), norm.weight, norm.bias, norm.eps)

    def positional(self, conv: PositionalConv, x: Tensor, roles: Tensor) -> Tensor:
        """GELU(norm(conv(x))), (slots, dim), and zero where `roles` (slots,) names no frame."""
        way = self._network.ways.positional
        if way == "kernel":
            assert conv.conv.bias is not None
            taps = self._network.positional_taps[conv]
            y = kernels.positional(x, taps, conv.conv.bias)
        else:
            y = conv.ways()[way](x).contiguous()
        return kernels.norm_gelu(y, None, None, conv.norm.eps, roles)

    def embed(
        self, x: Tensor, position: Tensor, roles: Tensor, tokens: Tensor, norm: nn.LayerNorm
    ) -> Tensor:
        """norm(x + position), (slots, dim); `tokens` (count, dim) are in their slots."""
        return kernels.add_norm(
            x, position, norm.weight, norm.bias, norm.eps, roles=roles, tokens=tokens
        )

    def add_norm(self, x: Tensor, y: Tensor, norm: nn.LayerNorm) -> Tensor:
        """norm(x + y), (slots, dim)."""
        return kernels.add_norm(x, y, norm.weight, norm.bias, norm.eps)

    def linear_gelu(self, linear: Linear, x: Tensor) -> Tensor:
        """GELU(linear(x)), (slots, dim) to (slots, mlp_dim)."""
        if self._network.ways.gelu == "epilogue":
            return torch._addmm_activation(linear.bias, x, linear.weight.T, use_gelu=True)
        return F.gelu(linear(x))

    def __call__(self, qkv: Tensor, layer: int) -> Tensor:
        """Attention within segments: (slots, 3, heads, head_dim) to (slots, heads × head_dim)."""
        slope = self._network.slopes
        slope = slope[layer if len(slope) > 1 else 0]  # (heads,)
        return kernels.attention(qkv, self._blocks, slope, self._network.extra_tokens)

    def means(self, x: Tensor) -> Tensor:
        """Of what the network gives, (slots, dim), each segment's mean: float32 (segments, dim)."""
        return kernels.means(x, self._edges)
