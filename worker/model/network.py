"""The network of emotion2vec+ (data2vec 2.0 audio) on a tape of clips, exact for each of them.

Only three things look across slots, and none of them reaches another clip: the front end sees the
samples under a frame; the positional convolutions see the gap, which is held at zero; attention
runs per segment. Everything else acts on each slot alone. How a tape is laid out: `worker.tape`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.clip import FRAME_STRIDE, frame_samples
from worker.model.alibi import AlibiBias
from worker.model.config import ConvLayer, ModelConfig
from worker.tape import TapeLayout

# Frames of the front end at a time. Its first layers have 64 rows a frame: on a CPU a short run
# stays in the cache, on a GPU a long one keeps it busy, and memory is bounded on both.
FRONT_END_FRAMES_CPU = 64
FRONT_END_FRAMES_GPU = 2048

# The norms outside the blocks have this one whatever `norm_eps` is.
FRONT_END_EPS = 1e-5


class FrontEndConv(nn.Module):
    """A convolution without padding, LayerNorm and GELU, on rows (time, channels).

    `weight` is (channels, kernel × channels_in), taken from a convolution's (channels, channels_in,
    kernel), so that the convolution is one matrix product over overlapping rows.
    """

    def __init__(self, layer: ConvLayer, channels_in: int) -> None:
        super().__init__()
        self.kernel, self.stride = layer.kernel, layer.stride
        self.weight = nn.Parameter(torch.empty(layer.channels, layer.kernel * channels_in))
        self.norm = nn.LayerNorm(layer.channels, eps=FRONT_END_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(time, channels_in), contiguous, to (time_out, channels)."""
        time, channels_in = x.shape
        time_out = (time - self.kernel) // self.stride + 1
        views = x.as_strided(
            (time_out, self.kernel * channels_in), (self.stride * channels_in, 1)
        )  # (time_out, kernel × channels_in)
        return F.gelu(self.norm(F.linear(views, self.weight)))  # (time_out, channels)


class PositionalConv(nn.Module):
    """A grouped convolution that keeps the length, LayerNorm without affine, and GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        kernel = config.positional_kernel
        self.conv = nn.Conv1d(
            config.embed_dim,
            config.embed_dim,
            kernel,
            padding=kernel // 2,
            groups=config.positional_groups,
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=FRONT_END_EPS, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(slots, dim) to (slots, dim)."""
        y = self.conv(x.T[None])[0].T  # (slots, dim), one slot longer for an even kernel
        return F.gelu(self.norm(y[: len(x)]))


class Attention(nn.Module):
    """Self-attention among the slots of each segment."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = nn.Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = nn.Linear(config.embed_dim, config.embed_dim)

    def forward(self, x: Tensor, segments: list[slice], bias: Tensor) -> Tensor:
        """(slots, dim) and bias (heads, longest, longest) to (slots, dim)."""
        qkv = self.qkv(x).view(len(x), 3, self.num_heads, -1)  # (slots, 3, heads, head_dim)
        mixed = torch.zeros_like(x)  # slots of no segment stay zero
        for slots in segments:
            length = slots.stop - slots.start
            q, k, v = qkv[slots].permute(1, 2, 0, 3)[:, None]  # 3 × (1, heads, length, head_dim)
            heads = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias[None, :, :length, :length]
            )  # (1, heads, length, head_dim)
            mixed[slots] = heads[0].transpose(0, 1).flatten(1)  # (length, dim)
        out: Tensor = self.proj(mixed)  # (slots, dim)
        return out


class Block(nn.Module):
    """A transformer block that normalizes after each of its two parts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.fc1 = nn.Linear(config.embed_dim, config.mlp_dim)
        self.fc2 = nn.Linear(config.mlp_dim, config.embed_dim)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)

    def forward(self, x: Tensor, segments: list[slice], bias: Tensor) -> Tensor:
        """(slots, dim) to (slots, dim)."""
        x = self.norm1(x + self.attn(x, segments, bias))
        x = self.norm2(x + self.fc2(F.gelu(self.fc1(x))))
        return x


class Network(nn.Module):
    """Samples of a tape in, one vector for each of its slots out.

    Not thread-safe: it keeps the attention bias of the longest segment so far.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = [1, *(layer.channels for layer in config.front_end)]
        self.front_end = nn.ModuleList(
            FrontEndConv(layer, channels_in)
            for layer, channels_in in zip(config.front_end, channels, strict=False)
        )
        self.project_norm = nn.LayerNorm(channels[-1], eps=FRONT_END_EPS)
        self.project = nn.Linear(channels[-1], config.embed_dim)
        self.positional = nn.ModuleList(
            PositionalConv(config) for _ in range(config.positional_depth)
        )
        self.extra_tokens = nn.Parameter(torch.empty(config.num_extra_tokens, config.embed_dim))
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.alibi_scale = nn.Parameter(
            torch.empty(config.alibi_layers, 1, config.alibi_heads, 1, 1)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self._bias = AlibiBias(num_heads=config.num_heads, extra_tokens=config.num_extra_tokens)

    def forward(self, samples: Tensor, layout: TapeLayout) -> Tensor:
        """Float32 (num_samples,) to the model's dtype (slots, dim); a gap's rows mean nothing."""
        device = samples.device
        in_gap = torch.from_numpy(layout.gap_mask()).to(device)[:, None]  # (slots, 1)
        token_slots = torch.from_numpy(layout.token_slots()).to(device)
        segments = layout.attention_slots()

        x: Tensor = self._frames(samples, layout.slots)  # (slots, channels)
        x = self.project(self.project_norm(x))  # (slots, dim)
        x = x.masked_fill(in_gap, 0.0)
        position = x
        for conv in self.positional:
            # Zero again after every layer: it is the padding that a lone clip would see. Never by
            # multiplication, which would let a NaN through.
            position = conv(position).masked_fill(in_gap, 0.0)
        x = x + position
        x[token_slots] = self.extra_tokens.repeat(len(segments), 1)
        x = self.norm(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, segments, self._layer_bias(layer, segments, x.dtype))
        return x

    def _frames(self, samples: Tensor, slots: int) -> Tensor:
        """The front end, a run of frames at a time: (num_samples,) to (slots, channels)."""
        run = FRONT_END_FRAMES_CPU if samples.device.type == "cpu" else FRONT_END_FRAMES_GPU
        dtype, channels = self.project.weight.dtype, self.project.in_features
        frames = torch.empty(slots, channels, dtype=dtype, device=samples.device)
        for start in range(0, slots, run):
            stop = min(start + run, slots)
            first = FRAME_STRIDE * start
            x = samples[first : first + frame_samples(stop - start), None]  # (samples, 1)
            x = x.to(dtype)
            for conv in self.front_end:
                x = conv(x)  # (time, channels)
            frames[start:stop] = x
        return frames

    def _layer_bias(self, layer: int, segments: list[slice], dtype: torch.dtype) -> Tensor:
        longest = max(slots.stop - slots.start for slots in segments)
        return self._bias.of_layer(layer, scale=self.alibi_scale, length=longest, dtype=dtype)
