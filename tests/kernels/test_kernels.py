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
    """A row that is not finite comes out as zeros, and is marked; the others are right."""
    x, y, weight, bias = drawn(70, 96), drawn(70, 96), drawn(96), drawn(96)
    expected = F.layer_norm((x.double() + y.double()), (96,), weight.double(), bias.double(), EPS)
    x[3, 5], y[40, 0], x[69, 95] = torch.nan, torch.inf, -torch.inf
    expected[[3, 40, 69]] = 0
    lost = torch.zeros(70, device=DEVICE)
    lost[7] = torch.nan  # by a layer before
    assert_close(kernels.add_norm(x, y, weight, bias, EPS, lost), expected, dtype)
    assert lost.isnan().nonzero().flatten().tolist() == [3, 7, 40, 69]


@dtypes
def test_tokens_in_their_slots(dtype: torch.dtype, drawn: Callable[..., Tensor]) -> None:
    """Where a role is −1 − i stands token i, before the norm; what was lost is begun anew."""
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
    lost = torch.full((40,), torch.nan, device=DEVICE)
    found = kernels.add_norm(x, y, weight, bias, EPS, lost, roles=roles, tokens=tokens)
    assert_close(found, expected, dtype)
    assert not lost.isnan().any()


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


@dtypes
@pytest.mark.parametrize(("heads", "width"), [(4, 16), (2, 64), (3, 20)])
@pytest.mark.parametrize("block", [32, 512])
def test_attention(
    dtype: torch.dtype,
    drawn: Callable[..., Tensor],
    heads: int,
    width: int,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each segment as alone, with its tokens and ALiBi, across and within blocks."""
    monkeypatch.setattr(spans_module, "_INTERPRETED_KEYS", block)
    # On a GPU a block is 64 slots, whatever is asked for.
    long = (400,) * DEVICE.type.count("cuda")
    layout = TapeLayout(gap=12, extra_tokens=10, frames=(30, 1, 80, 3, 40, *long), tail=9)
    qkv = drawn(layout.slots, 3, heads, width)
    spans = torch.from_numpy(layout.spans()).to(DEVICE)
    slope = 0.7 * torch.tensor(slopes(heads), device=DEVICE)
    found = kernels.attention(qkv, spans, slope, 10)
    alone = SegmentMix(
        layout.attention_slots(),
        AlibiBias(num_heads=heads, extra_tokens=10),
        scale=torch.full((1, 1, heads, 1, 1), 0.7, device=DEVICE),
        dtype=torch.float32,
    )(qkv.float(), 0)
    for slots in layout.attention_slots():
        assert_close(found[slots], alone[slots], dtype)
    assert found.isfinite().all()


# The middle one stands in three blocks of 32, the first and the last of them with a neighbour.
OVERFLOWING = TapeLayout(gap=12, extra_tokens=10, frames=(12, 30, 12), tail=9)


def attention_that_may_overflow(qkv: Tensor) -> Tensor:
    """Attention on that tape, for values that need not be finite."""
    spans = torch.from_numpy(OVERFLOWING.spans()).to(DEVICE)
    slope = torch.tensor(slopes(2), device=DEVICE)
    return kernels.attention(qkv, spans, slope, 10, finite=False)


@pytest.fixture
def narrow_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that stand in several blocks, few as their frames are."""
    monkeypatch.setattr(spans_module, "_INTERPRETED_KEYS", 32)


@cache
def finite_attention(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Values and what they give: computed once, since an interpreter is slow."""
    qkv = torch.randn((OVERFLOWING.slots, 3, 2, 16), generator=torch.Generator().manual_seed(0))
    qkv = qkv.to(DEVICE, dtype)
    return qkv, attention_that_may_overflow(qkv)


@dtypes
@pytest.mark.usefixtures("narrow_blocks")
def test_attention_that_expects_overflow(dtype: torch.dtype) -> None:
    """Where nothing overflows it is as without."""
    qkv, found = finite_attention(dtype)
    spans = torch.from_numpy(OVERFLOWING.spans()).to(DEVICE)
    slope = torch.tensor(slopes(2), device=DEVICE)
    assert_close(found, kernels.attention(qkv, spans, slope, 10).float(), dtype)


@dtypes
@pytest.mark.usefixtures("narrow_blocks")
@pytest.mark.parametrize("part", ["query", "key", "value"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_attention_where_values_overflow(dtype: torch.dtype, part: str, bad: float) -> None:
    """What is not finite stays in its segment, and shows there; the neighbours are as without."""
    qkv, expected = finite_attention(dtype)
    qkv = qkv.clone()
    before, middle, after = OVERFLOWING.attention_slots()
    qkv[middle.stop - 1, ["query", "key", "value"].index(part), 0, 3] = bad
    found = attention_that_may_overflow(qkv)
    for slots in (before, after):
        assert torch.equal(found[slots], expected[slots])
    assert not found[middle].isfinite().all()


@dtypes
def test_means(dtype: torch.dtype, drawn: Callable[..., Tensor]) -> None:
    """Of each segment's rows alone, up to the last that fits; NaN where one of them was lost."""
    x, lost = drawn(400, 96), torch.zeros(400, device=DEVICE)
    runs = [(10, 20), (30, 31), (41, 300), (310, 400), (0, 0)]
    x[300:310] = torch.nan  # nobody's
    edges = torch.tensor(np.array(runs, dtype=np.int32).T.copy(), device=DEVICE)
    found = kernels.means(x, edges, lost, 10)
    for (start, stop), mean in zip(runs[:4], found, strict=False):
        assert torch.allclose(mean, x[start:stop].float().mean(dim=0), atol=1e-6)
    for slot in (399, 309, 300):  # its last frame, and two tokens before it
        lost.zero_()
        lost[slot] = torch.nan
        again = kernels.means(x, edges, lost, 10)
        assert again[3].isnan().all()
        assert torch.equal(again[:3], found[:3])
