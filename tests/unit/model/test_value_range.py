"""Bounds on the network's values: none is ever exceeded, and float16 is left where it must be."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from storage.settings import load
from tests.unit.model.directories import save
from tests.unit.model.parity import (
    CHECKPOINTS,
    CPU,
    clip_of,
    copied,
    loaded,
    noise,
    segments_of,
    written,
)
from worker.clip import Samples
from worker.engine import loading
from worker.engine.engine import Engine
from worker.model.config import ConvLayer, ModelConfig
from worker.model.manifest import CHECKPOINT_FILE
from worker.model.model import Model
from worker.model.network import Network
from worker.model.synthetic import TOKENS
from worker.model.value_range import bounds, largest_value
from worker.settings import WorkerSettings

SECOND = 16_000
TWO_HOURS = 2 * 3600 * SECOND
FLOAT16_MAX = float(torch.finfo(torch.float16).max)


def silence() -> Samples:
    """Nothing."""
    return np.zeros(SECOND, dtype=np.float32)


def click() -> Samples:
    """All the energy of a clip in one sample: no row is longer than this one's."""
    samples = silence()
    samples[8_000] = 1.0
    return samples


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types
    """Notes the largest value that any operation gives: nothing is stored that it does not see."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.largest = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run it, and look at what it writes; its other results are statistics, in float32."""
        result = func(*args, **(kwargs or {}))
        value = result[0] if isinstance(result, tuple) else result
        aliased = func._schema.returns[0].alias_info
        written = aliased.is_write if aliased else "empty" not in str(func)
        if isinstance(value, Tensor) and value.is_floating_point() and written:
            self.largest = max(self.largest, float(value.abs().max()))
        return result


def largest_seen(model: Model, samples: Samples) -> float:
    """The largest value anywhere while a clip is run."""
    watch = Watch()
    with watch:
        (output,) = Engine(model).run(segments_of(clip_of(samples)))
    assert output.error is None
    return watch.largest


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("sound", [lambda: noise(SECOND), silence, click])
def test_nothing_exceeds_the_largest_bound(
    checkpoint: str, sound: Callable[[], Samples], tmp_path: Path
) -> None:
    """For an ordinary clip and for extreme ones."""
    model = loaded(checkpoint, tmp_path)
    assert largest_seen(model, sound()) <= largest_value(model.network, SECOND).value * (1 + 1e-5)


def test_every_weight_is_accounted_for(tmp_path: Path) -> None:
    """Make any of them huge: what comes of it stays below a bound that grows with it."""
    model = loaded("tiny", tmp_path)
    usual = largest_value(model.network, SECOND).value
    for name, weight in model.network.named_parameters():
        if not name.endswith("weight"):
            continue
        before = weight.clone()
        weight.mul_(10_000)
        bound = largest_value(model.network, SECOND).value
        assert bound > 5 * usual, name
        assert largest_seen(model, noise(SECOND)) <= bound * (1 + 1e-5), name
        weight.copy_(before)


def constant_network(weights: Mapping[str, float]) -> Network:
    """A small network, all of whose weights are ones; those that end as named, that value."""
    config = ModelConfig(
        embed_dim=6,
        num_heads=2,
        mlp_dim=5,
        prenet_depth=1,
        depth=0,
        num_extra_tokens=2,
        norm_eps=1e-5,
        front_end=(ConvLayer(4, kernel=10, stride=5), ConvLayer(3, kernel=2, stride=2)),
        positional_kernel=19,
        positional_depth=2,
        positional_groups=2,
        alibi_layers=1,
        alibi_heads=2,
        tokens=TOKENS,
    )
    network = Network(config).to(CPU).requires_grad_(False)
    for name, parameter in network.named_parameters():
        parameter.fill_(next((v for end, v in weights.items() if name.endswith(end)), 1.0))
    return network


def test_the_bounds_are_what_cauchy_and_schwarz_say() -> None:
    """Worked out by hand, for weights of ones and biases that can be told apart."""
    biases = {"norm.bias": 2.0, "norm1.bias": 3.0, "norm2.bias": 4.0, "conv.bias": 5.0}
    more = {"project.bias": 6.0, "qkv.bias": 7.0, "proj.bias": 8.0, "fc1.bias": 9.0}
    network = constant_network({"project_norm.bias": 0.5, **biases, **more, "fc2.bias": 10.0})
    root = math.sqrt
    front = root(4) + 2 * root(4)  # after the first norm: weights of ones, biases of 2
    project = root(6 * 3) * (root(3) + 0.5 * root(3)) + 6 * root(6)
    entering = root(6) + 2 * root(6)
    values = root(6 * 6) * entering + 7 * root(6)
    attended = root(6) + 3 * root(6)
    hidden = root(5 * 6) * attended + 9 * root(5)
    expected = {
        "samples": 10.0,
        "front_end.0": root(10) * 10,
        "front_end.0.norm": root(4) + 2,
        "front_end.1": root(2 * 4) * root(2) * front,
        "front_end.1.norm": root(3) + 2,
        "project_norm": root(3) + 0.5,
        "project": project,
        "positional.0": root(3 * 19) * root(19) * project + 5,
        "positional.1": root(3 * 19) * root(19) * root(6) + 5,
        "position": project + root(6),
        "extra_tokens": 1.0,
        "norm": root(6) + 2,
        "blocks.0.attn.qkv": root(6) * entering + 7,
        "blocks.0.attn": entering + root(6) * values + 8,
        "blocks.0.norm1": root(6) + 3,
        "blocks.0.fc1": root(6) * attended + 9,
        "blocks.0.fc2": attended + root(5) * hidden + 10,
        "blocks.0.norm2": root(6) + 4,
    }
    found = {bound.where: bound.value for bound in bounds(network, 100)}
    assert found == pytest.approx(expected)


def test_a_click_is_as_loud_as_the_bound_says() -> None:
    """The bound on the samples cannot be lower."""
    clip = clip_of(click())
    assert float(np.abs(written(clip, clip.windows[0])).max()) == pytest.approx(
        SECOND**0.5, rel=0.1
    )


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_ordinary_weights_fit_float16(checkpoint: str, tmp_path: Path) -> None:
    """Even for two hours with a single click."""
    assert largest_value(loaded(checkpoint, tmp_path).network, TWO_HOURS).value < FLOAT16_MAX


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("name", ["alibi_scale", "blocks.3.norm2.weight", "blocks.0.fc1.weight"])
def test_a_weight_that_is_not_finite_fits_nothing(name: str, value: float, tmp_path: Path) -> None:
    """As it is where casting it to float16 has made it infinite."""
    network = loaded("tiny", tmp_path, torch.float16).network
    network.get_parameter(name).view(-1)[0] = value
    assert largest_value(network, SECOND) == (name, math.inf)


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
