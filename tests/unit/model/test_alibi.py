"""The attention bias."""

import pytest
import torch

from tests.unit.model.parity import CPU
from worker.model.alibi import AlibiBias, slopes, unscaled_bias


def test_slopes_of_a_power_of_two_are_a_geometric_series() -> None:
    """As in the paper: for 8 heads, 1/2 to 1/256."""
    assert slopes(8) == pytest.approx([1 / 2**i for i in range(1, 9)])


def test_slopes_of_other_head_counts_interleave() -> None:
    """As in the paper's code: those of 4 heads, then every second one of 8."""
    assert slopes(6) == pytest.approx([1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8])


def test_the_bias_falls_with_distance_and_spares_the_extra_tokens() -> None:
    """Rows and columns of the extra tokens are zero; the first frame is position 0."""
    bias = unscaled_bias(2, extra_tokens=2, length=5, device=CPU)
    expected = torch.tensor([[0.0, -1, -2], [-1, 0, -1], [-2, -1, 0]])
    for head, slope in enumerate(slopes(2)):
        assert torch.equal(bias[head, 2:, 2:], slope * expected)
        assert not bias[head, :2].any()
        assert not bias[head, :, :2].any()


@pytest.mark.parametrize("layers", [1, 3])
def test_a_longer_segment_does_not_change_the_bias_of_a_shorter_one(layers: int) -> None:
    """The table grows when needed; what was there stays the corner of it."""
    scale = torch.rand(layers, 1, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    alibi = AlibiBias(num_heads=4, extra_tokens=10)
    short = alibi.of_layer(0, scale=scale, length=20, dtype=torch.float32)[:, :20, :20].clone()
    alibi.of_layer(0, scale=scale, length=300, dtype=torch.float32)
    again = alibi.of_layer(0, scale=scale, length=20, dtype=torch.float32)[:, :20, :20]
    assert torch.equal(short, again)


def test_each_layer_has_its_own_scale_where_the_model_has() -> None:
    """And a scale below zero counts as zero."""
    scale = torch.tensor([1.0, 2.0, -1.0]).view(3, 1, 1, 1, 1)
    alibi = AlibiBias(num_heads=4, extra_tokens=0)
    first, second, third = (
        alibi.of_layer(layer, scale=scale, length=30, dtype=torch.float32) for layer in range(3)
    )
    assert torch.equal(second, 2 * first)
    assert first.any()
    assert not third.any()


def test_no_bias_is_infinite_in_float16() -> None:
    """Half a minute apart, with a large learned scale, it would leave the range by far."""
    bias = AlibiBias(num_heads=2, extra_tokens=1)
    for layers in (1, 2):
        scale = torch.full((layers, 1, 2, 1, 1), 4000.0)
        table = bias.of_layer(layers - 1, scale=scale, length=1_500, dtype=torch.float16)
        assert bool(table.isfinite().all())
        bias = AlibiBias(num_heads=2, extra_tokens=1)
