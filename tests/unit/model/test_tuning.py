"""Ways to compute the same: each is exact, and the fastest is taken."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import torch

from tests.unit.engine.test_graphs import SHORT, Run, assert_reference, run_short_clips
from tests.unit.engine.test_parity import (
    HALF_TOLERANCE,
    NAMES,
    SCORE_TOLERANCE,
    assert_parity,
    parity_segments,
)
from tests.unit.model.parity import CHECKPOINTS, CPU, loaded
from worker.engine.engine import Engine
from worker.model import gpu_tuning, tuning
from worker.model.convolutions import POSITIONAL_SLOTS
from worker.model.gpu_tuning import _parts, tune_gpu
from worker.model.operations import EAGER
from worker.model.tape_operations import GpuNetwork
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gpu_is_left_exact_whatever_is_chosen(
    dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part's ways are timed; the rung that is made then is the reference."""
    monkeypatch.setattr(tuning, "ROUNDS", 1)  # an interpreter is slow
    model = loaded("tiny", tmp_path, dtype)
    gpu = GpuNetwork(model)
    with structlog.testing.capture_logs() as logs:
        tune_gpu(model, gpu, rows=64)
    tuned = {entry["what"]: entry for entry in logs}
    assert list(tuned) == ["positional", *["gelu"] * (dtype is torch.float16), "front_end"]
    assert (
        f"{gpu.ways.front_end}, {gpu.ways.front_end_frames} frames" == tuned["front_end"]["chosen"]
    )
    assert gpu.ways.positional == tuned["positional"]["chosen"]
    within = SCORE_TOLERANCE if dtype is torch.float32 else HALF_TOLERANCE
    assert_reference(model, "tiny", run_short_clips(Run(model, gpu=gpu)), within)


@pytest.mark.parametrize("part", ["positional", "gelu", "front_end"])
def test_every_way_of_a_gpu_is_the_reference(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16, which has the most of them."""
    monkeypatch.setattr(gpu_tuning, "FRONT_END_FRAMES", (64, 512))
    model = loaded("tiny", tmp_path, torch.float16)
    gpu = GpuNetwork(model)
    for ways in next(choices for what, _, choices in _parts(model, gpu, 64) if what == part):
        gpu.ways = ways
        outputs = dict(zip(SHORT, Run(model, gpu=gpu)(parity_segments(SHORT)), strict=True))
        assert_reference(model, "tiny", outputs, HALF_TOLERANCE)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("out of memory"), RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")]
)
def test_a_way_that_fails_is_passed_over(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front end in long runs, say, on a small GPU; where none works, the usual way stays."""
    model = loaded("tiny", tmp_path)
    gpu = GpuNetwork(model)
    usual = gpu.ways

    def frames(*_: object) -> None:
        if gpu.ways.front_end_frames > most:
            raise error

    monkeypatch.setattr(model.network, "frames", frames)
    most = 0
    with structlog.testing.capture_logs() as logs:
        tune_gpu(model, gpu, rows=64)
    assert gpu.ways.front_end_frames == usual.front_end_frames
    assert [entry["event"] for entry in logs].count("model.way_failed") == 6
    most = 1024
    gpu.ways = replace(usual, front_end_frames=4096)
    tune_gpu(model, gpu, rows=64)
    assert gpu.ways.front_end_frames == 1024


def test_what_breaks_off_leaves_the_usual_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that is no way's own: the ladder is captured as if nothing had been tried."""
    model = loaded("tiny", tmp_path)
    gpu = GpuNetwork(model)
    usual = gpu.ways
    monkeypatch.setattr(gpu_tuning, "fastest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tune_gpu(model, gpu, rows=64)
    assert gpu.ways == usual
