"""The network of emotion2vec+ (data2vec 2.0 audio) on a tape of clips, exact for each of them.

Only three things look across slots, and none of them reaches another clip: the front end sees the
samples under a frame; the positional convolutions see the gap, which is held at zero; attention
stays within a segment. Everything else acts on each slot alone. How a tape is laid out:
`worker.tape`.
"""

import torch
from torch import Tensor, nn

from worker.clip import FRAME_STRIDE, frame_samples
from worker.model.alibi import AlibiBias
from worker.model.attention import Mix, SegmentMix
from worker.model.config import ModelConfig
from worker.model.convolutions import FRONT_END_EPS, FrontEndConv, PositionalConv
from worker.model.linear import Linear
from worker.model.operations import EAGER, Operations
from worker.tape import TapeLayout

# Frames of the front end at a time. Its first layers have 64 rows a frame: on a CPU a short run
# stays in the cache, on a GPU a longer one keeps it busy (`worker.model.tuning` tries several), and
# memory is bounded on both.
FRONT_END_FRAMES_CPU = 64
FRONT_END_FRAMES_GPU = 1024


class Attention(nn.Module):
    """Self-attention; who sees whom is decided by `mix`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = Linear(config.embed_dim, 3 * config.embed_dim)
        self.proj = Linear(config.embed_dim, config.embed_dim)

    def forward(self, x: Tensor, layer: int, mix: Mix) -> Tensor:
        """(slots, dim) to (slots, dim)."""
        qkv = self.qkv(x).view(len(x), 3, self.num_heads, -1)  # (slots, 3, heads, head_dim)
        out: Tensor = self.proj(mix(qkv, layer))  # (slots, dim)
        return out


class Block(nn.Module):
    """A transformer block that normalizes after each of its two parts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attn = Attention(config)
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.fc1 = Linear(config.embed_dim, config.mlp_dim)
        self.fc2 = Linear(config.mlp_dim, config.embed_dim)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)

    def forward(self, x: Tensor, layer: int, mix: Mix, ops: Operations) -> Tensor:
        """(slots, dim) to (slots, dim)."""
        x = ops.add_norm(x, self.attn(x, layer, mix), self.norm1)
        return ops.add_norm(x, self.mlp(x, ops), self.norm2)

    def mlp(self, x: Tensor, ops: Operations = EAGER) -> Tensor:
        """(slots, dim) to (slots, dim), each slot by itself."""
        out: Tensor = self.fc2(ops.linear_gelu(self.fc1, x))
        return out


class Network(nn.Module):
    """Samples of a tape in, one vector for each of its slots out.

    Several threads may run it, once it is tuned. It keeps the attention bias of the longest segment
    so far.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = [1, *(layer.channels for layer in config.front_end)]
        self.front_end = nn.ModuleList(
            FrontEndConv(layer, channels_in)
            for layer, channels_in in zip(config.front_end, channels, strict=False)
        )
        self._channels = channels[-1]
        self.project_norm = nn.LayerNorm(channels[-1], eps=FRONT_END_EPS)
        self.project = Linear(channels[-1], config.embed_dim)
        self.positional = nn.ModuleList(
            PositionalConv(config) for _ in range(config.positional_depth)
        )
        self.extra_tokens = nn.Parameter(torch.empty(config.num_extra_tokens, config.embed_dim))
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.norm_eps)
        self.alibi_scale = nn.Parameter(
            torch.empty(config.alibi_layers, 1, config.alibi_heads, 1, 1)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.tuned = False  # by `worker.model.tuning`
        self._bias = AlibiBias(num_heads=config.num_heads, extra_tokens=config.num_extra_tokens)

    def forward(self, samples: Tensor, layout: TapeLayout) -> Tensor:
        """Float32 (num_samples,) to the model's dtype (slots, dim); a gap's rows mean nothing.

        Each segment attends by itself: for any layout, with nothing prepared.
        """
        roles = torch.from_numpy(layout.roles()).to(samples.device)
        mix = SegmentMix(
            layout.attention_slots(), self._bias, scale=self.alibi_scale, dtype=self.dtype
        )
        return self.run(samples, roles, mix, EAGER)

    def run(self, samples: Tensor, roles: Tensor, mix: Mix, ops: Operations) -> Tensor:
        """The same for a tape whose slots have `roles`, int32 (slots,): see `TapeLayout.roles`."""
        no_frame = (roles < 0)[:, None]  # (slots, 1)
        x: Tensor = self.frames(samples, len(roles), ops)  # (slots, channels)
        x = self.project(self.project_norm(x))  # (slots, dim)
        # Zero between the segments, and again after every layer: it is the padding that a lone clip
        # would see. Never by multiplication, which would let a NaN through.
        x = x.masked_fill(no_frame, 0.0)
        position = x
        for conv in self.positional:
            assert isinstance(conv, PositionalConv)
            position = ops.positional(conv, position, roles)
        x = ops.embed(x, position, roles, self.extra_tokens, self.norm)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, mix, ops)
        return x

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self.norm.weight.dtype

    def convolve(self, way: str) -> None:
        """Which of `PositionalConv.ways` to take."""
        for conv in self.positional:
            assert isinstance(conv, PositionalConv)
            conv.way = way

    def pack(self, rows: int) -> None:
        """Hold all matrices in oneDNN's layout, for tapes of about `rows` slots."""
        for module in self.modules():
            if isinstance(module, Linear | FrontEndConv):
                module.pack(rows)

    def frames(self, samples: Tensor, slots: int, ops: Operations = EAGER) -> Tensor:
        """The front end, a run of frames at a time: (num_samples,) to (slots, channels)."""
        run = ops.front_end_frames or (
            FRONT_END_FRAMES_CPU if samples.device.type == "cpu" else FRONT_END_FRAMES_GPU
        )
        frames = torch.empty(slots, self._channels, dtype=self.dtype, device=samples.device)
        for start in range(0, slots, run):
            stop = min(start + run, slots)
            first = FRAME_STRIDE * start
            x = samples[first : first + frame_samples(stop - start), None]  # (samples, 1)
            for conv in self.front_end:
                assert isinstance(conv, FrontEndConv)
                x = ops.front_end(conv, x)  # (time, channels)
            frames[start:stop] = x
        return frames
