"""The network of emotion2vec+ (data2vec 2.0 audio) on a tape of clips, exact for each of them.

Only three things look across slots, and none of them reaches another clip: the front end sees the
samples under a frame; the positional convolutions see the gap, which is held at zero; attention
stays within a segment. Everything else acts on each slot alone. How a tape is laid out:
`worker.tape`.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from worker.clip import FRAME_STRIDE, frame_samples
from worker.model.alibi import AlibiBias
from worker.model.attention import Mix, SegmentMix
from worker.model.config import ConvLayer, ModelConfig
from worker.model.fused import EAGER, Fused
from worker.model.linear import Linear, pack, packed_linear, packed_linear_add
from worker.tape import TapeLayout

# Frames of the front end at a time. Its first layers have 64 rows a frame: on a CPU a short run
# stays in the cache, on a GPU a longer one keeps it busy (`worker.model.tuning` tries several), and
# memory is bounded on both.
FRONT_END_FRAMES_CPU = 64
FRONT_END_FRAMES_GPU = (1024, 512, 2048)  # the usual one first
# Slots of a positional convolution at a time, where it is done by matrix products.
POSITIONAL_SLOTS = 1024

# The norms outside the blocks have this one whatever `norm_eps` is.
FRONT_END_EPS = 1e-5


class FrontEndConv(nn.Module):
    """A convolution without padding, LayerNorm and GELU, on rows (time, channels).

    `weight` is (channels, kernel × channels_in), taken from a convolution's (channels, channels_in,
    kernel), so that the convolution is a sum of matrix products. Each takes as many of its taps as
    the stride is long: their rows do not overlap, and are read where they lie.
    """

    def __init__(self, layer: ConvLayer, channels_in: int) -> None:
        super().__init__()
        self.kernel, self.stride, self.channels_in = layer.kernel, layer.stride, channels_in
        self.weight = nn.Parameter(torch.empty(layer.channels, layer.kernel * channels_in))
        self.norm = nn.LayerNorm(layer.channels, eps=FRONT_END_EPS)
        self._packed: list[Tensor] = []

    def pack(self, rows: int) -> None:
        """Hold the weight in oneDNN's layout for about `rows` rows, and nowhere else."""
        self._packed = [pack(self.weight[:, run], rows) for run in self._runs()]
        self.weight = nn.Parameter(self.weight.new_empty(0), requires_grad=False)

    def forward(self, x: Tensor, fused: Fused) -> Tensor:
        """(time, channels_in), contiguous, to (time_out, channels)."""
        return fused.norm_gelu(self._convolve(x), self.norm)

    def _convolve(self, x: Tensor) -> Tensor:
        runs = self._runs()
        y = self._product(x, runs[0], 0)  # (time_out, channels)
        for number, run in enumerate(runs[1:], start=1):
            rows = self._rows(x, run)
            if self._packed:
                y = packed_linear_add(rows, self._packed[number], y)
            else:
                y.addmm_(rows, self.weight[:, run].T)
        return y

    def _product(self, x: Tensor, run: slice, number: int) -> Tensor:
        rows = self._rows(x, run)
        if self._packed:
            return packed_linear(rows, self._packed[number])
        return F.linear(rows, self.weight[:, run])

    def _runs(self) -> list[slice]:
        """The columns of the weight that each product takes."""
        width = self.kernel * self.channels_in
        # One column a tap: a product with so few would cost more than copying what overlaps.
        step = width if self.channels_in == 1 else self.stride * self.channels_in
        return [slice(start, min(start + step, width)) for start in range(0, width, step)]

    def _rows(self, x: Tensor, run: slice) -> Tensor:
        """For each output what a run of columns is multiplied with: (time_out, columns)."""
        time_out = (len(x) - self.kernel) // self.stride + 1
        return x.as_strided(
            (time_out, run.stop - run.start),
            (self.stride * self.channels_in, 1),
            x.storage_offset() + run.start,
        )


class PositionalConv(nn.Module):
    """A grouped convolution that keeps the length, LayerNorm without affine, and GELU."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.groups, self.kernel = config.positional_groups, config.positional_kernel
        self.conv = nn.Conv1d(
            config.embed_dim,
            config.embed_dim,
            self.kernel,
            padding=self.kernel // 2,
            groups=self.groups,
        )
        self.norm = nn.LayerNorm(config.embed_dim, eps=FRONT_END_EPS, elementwise_affine=False)
        self.way = "convolution"  # one of `ways`

    def forward(self, x: Tensor, fused: Fused) -> Tensor:
        """(slots, dim) to (slots, dim)."""
        return fused.norm_gelu(self.ways()[self.way](x), self.norm)

    def ways(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """All exact ways to do it, the usual one first: each (slots, dim) to (slots, dim)."""
        # Not kept: it would hold this module in a cycle, and its weights past the model's end.
        return {
            "convolution": self.convolution,
            "channels_last": self.channels_last,
            "products": self.products,
        }

    def convolution(self, x: Tensor) -> Tensor:
        """By the convolution of the device's library."""
        y: Tensor = self.conv(x.T[None])[0].T  # (slots, dim), one slot longer for an even kernel
        return y[: len(x)]

    def channels_last(self, x: Tensor) -> Tensor:
        """By the same, as of an image one pixel high, whose channels lie where they are."""
        conv = self.conv
        weight = conv.weight[:, :, None].contiguous(memory_format=torch.channels_last)
        y = F.conv2d(
            x.T[None, :, None],
            weight,
            conv.bias,
            padding=(0, self.kernel // 2),
            groups=self.groups,
        )  # (1, dim, 1, slots), one slot longer for an even kernel
        return y[0, :, 0].T[: len(x)]

    def products(self, x: Tensor) -> Tensor:
        """By matrix products, one a group, a run of slots at a time.

        Each slot is copied `kernel` times for it, which must not leave the cache.
        """
        slots, dim = x.shape
        width = dim // self.groups
        before = self.kernel // 2
        padded = F.pad(x, (0, 0, before, self.kernel - 1 - before))  # (slots + kernel − 1, dim)
        padded = padded.view(-1, self.groups, width).transpose(0, 1).contiguous()
        weight = self.conv.weight.view(self.groups, width, width, self.kernel)
        weight = weight.transpose(2, 3).reshape(self.groups, width, -1).transpose(1, 2)
        y = x.new_empty(slots, self.groups, width)
        for start in range(0, slots, POSITIONAL_SLOTS):
            stop = min(start + POSITIONAL_SLOTS, slots)
            rows = padded.as_strided(
                (self.groups, stop - start, self.kernel * width),
                (padded.stride(0), width, 1),
                start * width,
            )  # (groups, slots, kernel × width), overlapping
            y[start:stop] = torch.bmm(rows, weight).transpose(0, 1)
        bias = self.conv.bias
        assert bias is not None
        return y.view(slots, dim) + bias


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

    def forward(self, x: Tensor, layer: int, mix: Mix, fused: Fused) -> Tensor:
        """(slots, dim) to (slots, dim)."""
        x = fused.add_norm(x, self.attn(x, layer, mix), self.norm1)
        return fused.add_norm(x, self.mlp(x), self.norm2)

    def mlp(self, x: Tensor) -> Tensor:
        """(slots, dim) to (slots, dim), each slot by itself."""
        out: Tensor = self.fc2(self.fc1.gelu(x))
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
        self.front_end_frames: int | None = None  # at a time; None for what suits the device
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

    def run(self, samples: Tensor, roles: Tensor, mix: Mix, fused: Fused) -> Tensor:
        """The same for a tape whose slots have `roles`, int32 (slots,): see `TapeLayout.roles`."""
        no_frame = (roles < 0)[:, None]  # (slots, 1)
        x: Tensor = self.frames(samples, len(roles), fused)  # (slots, channels)
        x = self.project(self.project_norm(x))  # (slots, dim)
        x = x.masked_fill(no_frame, 0.0)
        position = x
        for conv in self.positional:
            # Zero again after every layer: it is the padding that a lone clip would see. Never by
            # multiplication, which would let a NaN through.
            position = conv(position, fused).masked_fill(no_frame, 0.0)
        x = self._with_extra_tokens(x + position, roles)
        x = self.norm(x)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, mix, fused)
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

    def _with_extra_tokens(self, x: Tensor, roles: Tensor) -> Tensor:
        """(slots, dim) with the extra tokens in the slots that are theirs."""
        count = len(self.extra_tokens)
        if not count:
            return x
        token = -1 - roles  # (slots,), from `count` up where a slot belongs to no segment
        is_token = ((token >= 0) & (token < count))[:, None]  # (slots, 1)
        return torch.where(is_token, self.extra_tokens[token.clamp(0, count - 1)], x)

    def frames(self, samples: Tensor, slots: int, fused: Fused = EAGER) -> Tensor:
        """The front end, a run of frames at a time: (num_samples,) to (slots, channels)."""
        on_cpu = samples.device.type == "cpu"
        run = self.front_end_frames or (FRONT_END_FRAMES_CPU if on_cpu else FRONT_END_FRAMES_GPU[0])
        frames = torch.empty(slots, self._channels, dtype=self.dtype, device=samples.device)
        for start in range(0, slots, run):
            stop = min(start + run, slots)
            first = FRAME_STRIDE * start
            x = samples[first : first + frame_samples(stop - start), None]  # (samples, 1)
            x = x.to(self.dtype)
            for conv in self.front_end:
                x = conv(x, fused)  # (time, channels)
            frames[start:stop] = x
        return frames
