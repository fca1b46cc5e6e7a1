"""Each kernel computes what torch does; without a GPU, as Triton's interpreter runs it."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from worker.model.alibi import AlibiBias, slopes
from worker.model.attention import SegmentMix
from worker.tape import TapeLayout

triton = pytest.importorskip("triton", reason="NO TRITON: no kernel is tested on this machine")
tl = pytest.importorskip("triton.language")
kernels = pytest.importorskip("worker.model.kernels")
norms = pytest.importorskip("worker.model.kernels.norms")
spans_module = pytest.importorskip("worker.model.kernels.spans")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# What Triton's interpreter multiplies: bfloat16 it takes for integers.
DTYPES = [torch.float32, torch.float16, *[torch.bfloat16] * torch.cuda.is_available()]
# Of a result near 1, with inputs as they are: what rounding the result leaves.
TOLERANCE = {torch.float32: 4e-6, torch.float16: 4e-3, torch.bfloat16: 4e-2}
EPS = 1e-5

dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype)[6:])


@pytest.fixture
def drawn(dtype: torch.dtype) -> Callable[..., Tensor]:
    """Random numbers of a shape."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator).to(DEVICE, dtype)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """`expected` is in float64, or float32."""
    assert found.shape == expected.shape
    worst = (found.double() - expected.double()).abs() / expected.double().abs().clamp(min=1)
    assert float(worst.max()) < TOLERANCE[dtype]


@dtypes
@pytest.mark.parametrize(("rows", "channels"), [(1, 32), (70, 96), (131, 512)])
def test_norm_and_gelu(
    dtype: torch.dtype, drawn: Callable[..., Tensor], rows: int, channels: int
) -> None:
    """Any number of rows and channels; with a weight, and without but only where frames are."""
    x, weight, bias = 3 * drawn(rows, channels), drawn(channels), drawn(channels)
    affine = F.layer_norm(x.double(), (channels,), weight.double(), bias.double(), EPS)
    assert_close(kernels.norm_gelu(x, weight, bias, EPS), F.gelu(affine), dtype)
    roles = torch.randint(-11, 2, (rows,), dtype=torch.int32, device=DEVICE)
    roles.clamp_(max=0)
    x[roles < 0] = torch.nan  # must not be let through
    plain = F.gelu(F.layer_norm(x.double(), (channels,), eps=EPS))
    expected = plain.masked_fill((roles < 0)[:, None], 0.0)
    assert_close(kernels.norm_gelu(x, None, None, EPS, roles), expected, dtype)


@triton.jit
def _gelu_kernel(x, out, EXACT: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[name-defined]
    at = tl.arange(0, SIZE)
    tl.store(out + at, norms.gelu(tl.load(x + at), EXACT))


@pytest.mark.parametrize(("exact", "tolerance"), [(True, 3e-7), (False, 4e-6)])
def test_gelu_on_all_its_range(exact: bool, tolerance: float) -> None:
    """Where it bends, and far out; NaN stays NaN."""
    far = torch.tensor([0.0, 20.0, -20.0, 1e3, -1e3, 6e4, -6e4, torch.nan], device=DEVICE)
    x = torch.cat([torch.linspace(-9, 9, 4096 - len(far), device=DEVICE), far])
    found = torch.empty_like(x)
    _gelu_kernel[(1,)](x, found, EXACT=exact, SIZE=len(x))
    error = (found.double() - F.gelu(x.double())).abs() / x.double().abs().clamp(min=1)
    assert float(error[:-1].max()) < tolerance
    assert found[-1].isnan()


@dtypes
def test_add_and_norm(dtype: torch.dtype, drawn: Callable[..., Tensor]) -> None:
    """A row that is not finite, or whose deviation is not, is NaN; the others are right."""
    x, y, weight, bias = drawn(70, 96), drawn(70, 96), drawn(96), drawn(96)
    expected = F.layer_norm((x.double() + y.double()), (96,), weight.double(), bias.double(), EPS)
    x[3, 5], y[40, 0], x[69, 95] = torch.nan, torch.inf, -torch.inf
    bad = [3, 40, 69]
    if dtype is not torch.float16:  # which holds no value whose square float32 does not
        x[50, 7] = 1e25
        bad.insert(2, 50)
    found = kernels.add_norm(x, y, weight, bias, EPS)
    assert found.isnan().all(dim=1).nonzero().flatten().tolist() == bad
    good = [row for row in range(70) if row not in bad]
    assert_close(found[good], expected[good], dtype)


@dtypes
def test_tokens_in_their_slots(dtype: torch.dtype, drawn: Callable[..., Tensor]) -> None:
    """Where a role is −1 − i stands token i, before the norm."""
    x, y, weight, bias, tokens = (
        drawn(40, 64), drawn(40, 64), drawn(64), drawn(64), drawn(10, 64)
    )  # fmt: skip
    layout = TapeLayout(gap=10, extra_tokens=10, frames=(5, 1), tail=14)
    roles = torch.from_numpy(layout.roles()).to(DEVICE)
    total = x.double() + y.double()
    for slot, role in enumerate(roles.tolist()):
        if -11 < role < 0:
            total[slot] = tokens[-1 - role].double()
    expected = F.layer_norm(total, (64,), weight.double(), bias.double(), EPS)
    found = kernels.add_norm(x, y, weight, bias, EPS, roles=roles, tokens=tokens)
    assert_close(found, expected, dtype)


@dtypes
@pytest.mark.parametrize(("channels", "kernel"), [(32, 10), (48, 10), (512, 10), (64, 17)])
def test_the_first_convolution(
    dtype: torch.dtype, drawn: Callable[..., Tensor], channels: int, kernel: int
) -> None:
    """Of samples in float32, which are rounded as the weights are."""
    weight, gain, bias = drawn(channels, kernel) / 3, drawn(channels), drawn(channels)
    samples = torch.randn(5 * 40 + kernel + 3, device=DEVICE)
    found = kernels.first_conv(
        samples, kernels.padded_taps(weight), gain, bias, EPS, kernel=kernel, stride=5
    )
    rounded = samples.to(dtype).double()
    rows = rounded.as_strided((41, kernel), (5, 1)) @ weight.double().T
    expected = F.gelu(F.layer_norm(rows, (channels,), gain.double(), bias.double(), EPS))
    assert_close(found, expected, dtype)


@dtypes
@pytest.mark.parametrize(("dim", "groups", "kernel"), [(64, 4, 19), (96, 6, 19), (80, 4, 8)])
def test_the_positional_convolution(
    dtype: torch.dtype, drawn: Callable[..., Tensor], dim: int, groups: int, kernel: int
) -> None:
    """Groups of any width; a kernel that is even sees one more slot before than after."""
    x, weight, bias = drawn(150, dim), drawn(dim, dim // groups, kernel), drawn(dim)
    found = kernels.positional(x, kernels.grouped_taps(weight / 20, groups), bias)
    expected = F.conv1d(
        x.double().T[None], weight.double() / 20, bias.double(), padding=kernel // 2, groups=groups
    )[0].T[:150]
    assert_close(found, expected, dtype)


def attended(qkv: Tensor, layout: TapeLayout, slope: Tensor) -> Tensor:
    """Attention on a tape of that layout."""
    size = kernels.block_size(qkv.dtype, DEVICE, layout.slots)
    most = kernels.most_blocks(layout.slots, len(layout.frames) + 3, size)
    blocks = torch.from_numpy(kernels.attention_blocks(layout, size, most)).to(DEVICE)
    return kernels.attention(qkv, blocks, slope, layout.extra_tokens)


@dtypes
@pytest.mark.parametrize(
    ("heads", "width", "extra", "block", "programs"),
    [
        (2, 16, 10, 32, 256),
        (1, 64, 10, 32, 3),  # the blocks behind them are left to programs that take several
        (3, 20, 10, 512, 256),
        (1, 16, 0, 32, 256),
    ],
)
def test_attention(
    dtype: torch.dtype,
    drawn: Callable[..., Tensor],
    heads: int,
    width: int,
    extra: int,
    block: int,
    programs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each segment as alone, with its tokens and ALiBi, in one block and in many."""
    monkeypatch.setattr(spans_module, "_INTERPRETED_BLOCK", block)
    monkeypatch.setattr(spans_module, "_LEAST_BLOCKS", programs)
    monkeypatch.setattr(spans_module, "_SLOTS_A_BLOCK", 10_000)
    monkeypatch.setattr(spans_module, "_PROGRAMS_FOR_THE_REST", 2)
    # On a GPU a block is 64 slots, whatever is asked for.
    long = (400,) * DEVICE.type.count("cuda")
    layout = TapeLayout(gap=12, extra_tokens=extra, frames=(30, 1, 32, 70, *long), tail=9)
    qkv = drawn(layout.slots, 3, heads, width)
    slope = 0.7 * torch.tensor(slopes(heads), device=DEVICE)
    found = attended(qkv, layout, slope)
    alone = SegmentMix(
        layout.attention_slots(),
        AlibiBias(num_heads=heads, extra_tokens=extra),
        scale=torch.full((1, 1, heads, 1, 1), 0.7, device=DEVICE),
        dtype=torch.float32,
    )(qkv.float(), 0)
    for slots in layout.attention_slots():
        assert_close(found[slots], alone[slots], dtype)


@dtypes
def test_attention_is_the_same_wherever_a_segment_lies(
    dtype: torch.dtype, drawn: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, beside whom and behind whatever it is laid."""
    monkeypatch.setattr(spans_module, "_INTERPRETED_BLOCK", 32)
    slope = torch.tensor(slopes(2), device=DEVICE)
    clip = drawn(10 + 50, 3, 2, 16)
    found = []
    for before, after in (((), ()), ((7, 21), (90,))):
        layout = TapeLayout(gap=12, extra_tokens=10, frames=(*before, 50, *after), tail=9)
        qkv = drawn(layout.slots, 3, 2, 16)
        at = layout.attention_slots()[len(before)]
        qkv[at] = clip
        found.append(attended(qkv, layout, slope)[at])
    assert torch.equal(*found)


OVERFLOWING = TapeLayout(gap=12, extra_tokens=10, frames=(12, 40, 12), tail=9)


@cache
def finite_attention(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values and what they give: computed once, since an interpreter is slow."""
    qkv = torch.randn((OVERFLOWING.slots, 3, 2, 16), generator=torch.Generator().manual_seed(0))
    qkv = qkv.to(DEVICE, dtype)
    return qkv, attended(qkv, OVERFLOWING, torch.tensor(slopes(2), device=DEVICE))


@dtypes
@pytest.mark.parametrize("part", ["query", "key", "value"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_attention_where_values_overflow(
    dtype: torch.dtype, part: str, bad: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not finite stays in its segment, and shows there; the neighbours are as without."""
    monkeypatch.setattr(spans_module, "_INTERPRETED_BLOCK", 32)  # segments stand in several blocks
    qkv, expected = finite_attention(dtype)
    qkv = qkv.clone()
    before, middle, after = OVERFLOWING.attention_slots()
    qkv[middle.start + 30, ["query", "key", "value"].index(part), 0, 3] = bad
    found = attended(qkv, OVERFLOWING, torch.tensor(slopes(2), device=DEVICE))
    for slots in (before, after):
        assert torch.equal(found[slots], expected[slots])
    assert not found[middle].isfinite().all()


BLOCKS = TapeLayout(gap=12, extra_tokens=10, frames=(64, 1, 130), tail=9)


def test_the_blocks_of_attention() -> None:
    """A segment's tokens are one, its frames as many as they fill; what is left over is zero."""
    count, *table = kernels.attention_blocks(BLOCKS, 64, 9).tolist()
    assert count == 8
    assert table[:9] == [2, 12, 78, 88, 91, 101, 165, 229, 0]
    assert table[9:18] == [2, 2, 78, 78, 91, 91, 91, 91, 0]
    assert table[18:] == [76, 76, 89, 89, 231, 231, 231, 231, 0]


def test_no_segments_are_no_blocks() -> None:
    """As on a tape that nobody has filled yet."""
    layout = TapeLayout(gap=12, extra_tokens=10, frames=(), tail=100)
    assert not kernels.attention_blocks(layout, 64, kernels.most_blocks(100, 7, 64)).any()


@pytest.mark.parametrize("frames", [(1,) * 9, (64, 65), (200, 1, 1)])
@pytest.mark.parametrize("extra", [0, 10])
def test_all_blocks_have_room(frames: tuple[int, ...], extra: int) -> None:
    """In the table of the shortest tape that holds the segments."""
    layout = TapeLayout(gap=extra, extra_tokens=extra, frames=frames)
    most = kernels.most_blocks(layout.slots, len(frames), 64)
    table = kernels.attention_blocks(layout, 64, most)
    assert len(table) == 1 + 3 * most
    assert table[0] == sum(-(-count // 64) + (extra > 0) for count in frames)


@dtypes
def test_means(dtype: torch.dtype, drawn: Callable[..., Tensor]) -> None:
    """Of each segment's rows alone, up to the last that fits; NaN where one of them is."""
    x = drawn(400, 96)
    runs = [(10, 20), (30, 31), (41, 300), (310, 400), (0, 0)]
    x[300:310] = torch.nan  # nobody's
    edges = torch.tensor(np.array(runs, dtype=np.int32).T.copy(), device=DEVICE)
    found = kernels.means(x, edges)
    for (start, stop), mean in zip(runs[:4], found, strict=False):
        assert torch.allclose(mean, x[start:stop].float().mean(dim=0), atol=1e-6)
    x[399] = torch.nan
    again = kernels.means(x, edges)
    assert again[3].isnan().all()
    assert torch.equal(again[:3], found[:3])
