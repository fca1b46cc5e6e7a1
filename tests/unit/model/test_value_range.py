"""Bounds on the network's values: none is ever exceeded, and float16 is left where it must be."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch
from torch import Tensor, nn

from storage.settings import load
from tests.unit.model.directories import save
from tests.unit.model.parity import CHECKPOINTS, clip_of, copied, loaded, noise, segments_of
from worker import loading
from worker.clip import Samples
from worker.engine import Engine
from worker.model.checkpoint import CHECKPOINT_FILE
from worker.model.network import FrontEndConv
from worker.model.value_range import bounds, largest_value
from worker.settings import WorkerSettings

TWO_HOURS = 2 * 3600 * 16_000
FLOAT16_MAX = float(torch.finfo(torch.float16).max)
PARTS = ("attn", "attn.qkv", "fc1", "fc2")


def silence() -> Samples:
    """Nothing."""
    return np.zeros(16_000, dtype=np.float32)


def click() -> Samples:
    """All the energy of a clip in one sample: no row is longer than this one's."""
    samples = silence()
    samples[8_000] = 1.0
    return samples


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("sound", [lambda: noise(16_000), silence, click])
def test_no_value_exceeds_its_bound(
    checkpoint: str,
    sound: Callable[[], Samples],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What each part of the network gives, for an ordinary clip and for extreme ones."""
    model = loaded(checkpoint, tmp_path)
    limits = {bound.where: bound.value for bound in bounds(model.network, 16_000)}
    found: dict[str, float] = {}

    def watch(name: str, output: Tensor) -> Tensor:
        found[name] = max(found.get(name, 0.0), float(output.abs().max()))
        return output

    def hook(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _module, _inputs, output: watch(name, output))

    network = model.network
    for number, conv in enumerate(network.front_end):
        assert isinstance(conv, FrontEndConv)
        name, convolve = f"front_end.{number}", conv._convolve
        monkeypatch.setattr(conv, "_convolve", lambda x, n=name, call=convolve: watch(n, call(x)))
    hook("project", network.project)
    for number, positional in enumerate(network.positional):
        hook(f"positional.{number}", positional.get_submodule("conv"))
    for number, block in enumerate(network.blocks):
        for part in PARTS:
            hook(f"blocks.{number}.{part}", block.get_submodule(part))
    Engine(model).run(segments_of(clip_of(sound())))
    assert set(limits) - set(found) == {"samples", "position", "extra_tokens"}
    for name, value in found.items():
        assert 0 <= value <= limits[name] * (1 + 1e-5), name


def test_a_click_is_as_loud_as_the_bound_says() -> None:
    """The bound on the samples cannot be lower."""
    clip = clip_of(click())
    out = np.empty(16_000 - 16_000 % 320 + 80 - 320, dtype=np.float32)
    clip.write(clip.windows[0], out)
    assert float(np.abs(out).max()) == pytest.approx(16_000**0.5, rel=0.1)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_ordinary_weights_fit_float16(checkpoint: str, tmp_path: Path) -> None:
    """Even for two hours with a single click."""
    assert largest_value(loaded(checkpoint, tmp_path).network, TWO_HOURS).value < FLOAT16_MAX


def test_a_weight_that_is_not_finite_fits_nothing(tmp_path: Path) -> None:
    """As it is where casting it to float16 has made it infinite."""
    model = loaded("tiny", tmp_path, torch.float16)
    with torch.no_grad():
        next(iter(model.network.blocks)).get_submodule("fc1").get_parameter("bias")[3] = torch.inf
    assert largest_value(model.network, 16_000).value == float("inf")


def loud_checkpoint(directory: Path) -> Path:
    """A model whose hidden layers leave float16 for some clip, though each weight is within it."""
    directory = copied("tiny", directory)
    weights = torch.load(directory / CHECKPOINT_FILE, weights_only=True)["model"]
    name = "d2v_model.blocks.0.norm1.weight"
    weights[name] = torch.full_like(weights[name], 9_000.0)
    save(directory, weights)
    return directory


@pytest.mark.parametrize(
    ("asked", "loud", "expected"),
    [
        ("auto", False, torch.float16),
        ("auto", True, torch.float32),
        ("float16", True, torch.float16),  # as asked, and said loudly
    ],
)
def test_float16_is_left_where_values_could_leave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, loud: bool, expected: torch.dtype
) -> None:
    """A GPU computes in float16 by itself only where that is proven to be wide enough."""
    monkeypatch.setattr(loading, "resolve_dtype", lambda _name, _device: torch.float16)
    monkeypatch.setattr(loading, "wider_dtype", lambda _device: torch.float32)
    directory = loud_checkpoint(tmp_path) if loud else copied("tiny", tmp_path)
    options = {"model": str(directory), "device": "cpu", "dtype": asked}
    settings = load(WorkerSettings, options=options)
    with structlog.testing.capture_logs() as logs:
        engine = loading.load_engine(settings)
    assert engine.model.dtype == expected
    said = [entry for entry in logs if entry["event"] == "model.range_too_wide"]
    assert [entry["where"] for entry in said] == ["blocks.2.fc2"] * loud
