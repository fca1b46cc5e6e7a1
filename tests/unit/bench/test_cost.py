"""What the network costs, counted from its sizes."""

import math

import pytest

from worker.bench.cost import products, slot_bytes, slot_flop, weight_bytes
from worker.clip import num_frames
from worker.model.config import ModelConfig
from worker.model.synthetic import architecture
from worker.model.weights import checkpoint_shapes

LARGE = architecture("large")


def test_a_second_of_audio_takes_20_6_gflop() -> None:
    """The figure that the design was made with, counted again from the config."""
    frames = num_frames(5 * 16_000)
    assert slot_flop(LARGE) * frames / 5 / 1e9 == pytest.approx(20.6, abs=0.05)


@pytest.mark.parametrize("config", [LARGE, architecture("tiny")])
def test_every_matrix_of_the_checkpoint_is_counted_once(config: ModelConfig) -> None:
    """The weights of all products are those of the checkpoint, but for what is no product."""
    shapes = checkpoint_shapes(config)
    matrices = {
        name: math.prod(shape)
        for name, shape in shapes.items()
        if (len(shape) > 1 and not name.endswith(("extra_tokens", "alibi_scale", "proj.weight")))
        or name.endswith("attn.proj.weight")
    }
    assert sum(product.weights for product in products(config)) == sum(matrices.values())
    assert weight_bytes(config, itemsize=2) == 2 * sum(matrices.values())


def test_the_front_end_makes_one_row_of_every_slot() -> None:
    """Its strides bring 320 samples down to one frame."""
    rows = [product.rows for product in products(LARGE) if product.name.startswith("front end")]
    assert rows == [64, 32, 16, 8, 4, 2, 1]


def test_half_the_itemsize_moves_half_the_bytes() -> None:
    """Bytes are counted in the numbers that the network runs in."""
    assert slot_bytes(LARGE, itemsize=4) == 2 * slot_bytes(LARGE, itemsize=2)
