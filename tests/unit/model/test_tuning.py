"""Ways to compute the same: each is exact, and the fastest is taken."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.unit.engine.test_parity import NAMES, assert_parity, parity_segments
from tests.unit.model.parity import CHECKPOINTS, CPU, loaded
from worker.engine.engine import Engine
from worker.model.convolutions import POSITIONAL_SLOTS
from worker.model.operations import EAGER
from worker.model.tuning import can_pack, fastest, tune


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("way", ["convolution", "channels_last", "products"])
def test_every_way_is_the_reference(
    checkpoint: str, packed: bool, way: str, tmp_path: Path
) -> None:
    """Packed or plain matrices, convolutions by the library or by products."""
    assert can_pack(torch.float32)  # every wheel of torch brings oneDNN
    model = loaded(checkpoint, tmp_path)
    model.network.convolve(way)
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


@pytest.mark.parametrize("frames", [1, 7, 512, 1024, 2048])
def test_any_run_of_the_front_end_is_the_reference(
    frames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many frames it takes at a time."""
    monkeypatch.setattr(EAGER, "front_end_frames", frames)
    engine = Engine(loaded("tiny", tmp_path), tape_slots=4096)
    assert_parity(engine, "tiny", NAMES[:3], engine.run(parity_segments(NAMES[:3])))


def test_a_model_that_is_let_go_is_gone_at_once(tmp_path: Path) -> None:
    """Its memory is wanted for another: nothing in it may hold itself until a collection."""
    network = loaded("tiny", tmp_path).network
    gone = [weakref.ref(module) for module in network.modules()]
    gc.disable()
    try:
        del network
        assert [module() for module in gone if module() is not None] == []
    finally:
        gc.enable()


def test_tuning_a_model_leaves_it_exact(tmp_path: Path) -> None:
    """Whatever is chosen on this machine."""
    model = loaded("tiny", tmp_path)
    tune(model)
    engine = Engine(model, tape_slots=4096)
    assert_parity(engine, "tiny", NAMES, engine.run(parity_segments()))
