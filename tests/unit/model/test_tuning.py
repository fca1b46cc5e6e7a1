"""Ways to compute the same: each is exact, and the fastest is taken."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.unit.model.parity import CHECKPOINTS, CPU, loaded
from tests.unit.test_parity import NAMES, assert_parity, parity_segments
from worker.engine import Engine
from worker.model.network import POSITIONAL_SLOTS
from worker.model.tuning import can_pack, fastest, tune


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("as_products", [False, True])
def test_every_way_is_the_reference(
    checkpoint: str, packed: bool, as_products: bool, tmp_path: Path
) -> None:
    """Packed or plain matrices, convolutions by the library or by products."""
    assert can_pack(torch.float32)  # every wheel of torch brings oneDNN
    model = loaded(checkpoint, tmp_path)
    model.network.convolve_by_products(as_products)
    if packed:
        model.network.pack(500)
    engine = Engine(model, tape_slots=4096)
    segments = parity_segments()
    assert sum(engine.slots(each.window) for each in segments) > POSITIONAL_SLOTS
    assert_parity(engine, checkpoint, NAMES, engine.run(segments))


def test_packed_weights_are_held_once(tmp_path: Path) -> None:
    """The plain matrices are let go: there is no second copy."""
    network = loaded("tiny", tmp_path).network
    network.pack(100)
    assert all(parameter.dim() < 2 or len(parameter) == 0 for parameter in linear_weights(network))


def linear_weights(network: torch.nn.Module) -> list[torch.Tensor]:
    """The matrices of the blocks."""
    return [p for name, p in network.named_parameters() if "blocks" in name and "weight" in name]


class Watch:
    """Time that passes only while a way runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        """A way that takes so long each time, and the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def test_the_fastest_way_is_taken() -> None:
    """By its best time; what it needs to warm up does not count."""
    watch = Watch()
    ways = {"usual": watch.taking(0.01), "new": watch.taking(0.5, 0.02, 0.005, 0.03)}
    assert fastest(ways, CPU, watch) == ("new", {"usual": 10.0, "new": 5.0})


def test_noise_changes_nothing() -> None:
    """For a little gain the usual way is not left."""
    watch = Watch()
    ways = {"usual": watch.taking(0.0100), "new": watch.taking(0.0085)}
    assert fastest(ways, CPU, watch)[0] == "usual"


def test_tuning_a_model_leaves_it_exact(tmp_path: Path) -> None:
    """Whatever is chosen on this machine."""
    model = loaded("tiny", tmp_path)
    tune(model)
    engine = Engine(model, tape_slots=4096)
    assert_parity(engine, "tiny", NAMES, engine.run(parity_segments()))
