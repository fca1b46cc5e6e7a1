"""Ours beside the reference on the same device: a clip at a time, and in padded batches.

The reference is FunASR's network, its class alone: what its package needs beside it is not asked
for. A clip at a time it runs as its own `inference` does it; in padded batches as one would by
hand, sorted by length, under autocast in float16. All sides start from samples in memory.
"""

import importlib.util
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bench.gpu.device import device, model
from bench.gpu.found import Found
from tests.unit.model.directories import LARGE, write_directory
from worker.bench.choices import Lengths
from worker.bench.clips import draw
from worker.bench.engine import predict, segments_of
from worker.clip import Samples
from worker.engine.engine import Engine
from worker.model.config import ModelConfig
from worker.model.synthetic import TOKENS, random_tensor
from worker.model.weights import checkpoint_shapes

_ALONE, _MANY = 64, 512
_BATCHES = (16, 64, 256)
Scores = np.ndarray


def measure(found: Found, *, dry: bool) -> None:
    """Its figures first: our engine sets how products in float32 are rounded."""
    size = "tiny" if dry else "large"
    reference = _network(size)
    found.keep(parameters=sum(parameter.numel() for parameter in reference.parameters()))
    alone, many = (2, 4) if dry else (_ALONE, _MANY)
    scores: dict[str, Scores] = {}
    for lengths in Lengths:
        clips = draw(lengths, many)

        def one_by_one(clips: Sequence[Samples] = clips) -> Scores:
            return np.stack([_alone(reference, clip) for clip in clips[:alone]])

        found.step(f"{lengths}_alone", lambda: _timed(one_by_one, clips[:alone], scores, lengths))
        for size_of_batch in (2,) if dry else _BATCHES:
            found.step(
                f"{lengths}_padded_{size_of_batch}",
                lambda: _timed(
                    lambda: _padded(reference, clips, size_of_batch), clips, scores, lengths
                ),
            )
    engine = Engine(model(torch.float32 if dry else None))
    engine.warm_up()
    for lengths in Lengths:
        clips = draw(lengths, many)

        def ours() -> Scores:
            segments = segments_of(clips)
            return np.array([list(each.scores.values()) for each in predict(engine, segments)])

        found.step(f"{lengths}_ours", lambda: _timed(ours, clips, scores, lengths))


def _timed(
    classify: Callable[[], Scores],
    clips: Sequence[Samples],
    first: dict[str, Scores],
    lengths: Lengths,
) -> dict[str, float]:
    """Seconds of audio a second, best of three; and how far scores are from the first that ran."""
    found = classify()
    took = []
    for _ in range(3):
        started = time.perf_counter()
        classify()
        took.append(time.perf_counter() - started)
    exact = first.setdefault(lengths, found)
    both = min(len(exact), len(found))
    off = np.abs(found[:both] - exact[:both]).max(axis=1)
    result = {
        "audio_seconds_a_second": sum(map(len, clips)) / 16_000 / min(took),
        "ms_a_clip": 1000 * min(took) / len(clips),
        "largest_score_difference": float(off.max()),
        "median_score_difference": float(np.median(off)),
        "clips": len(clips),
    }
    print(lengths, {name: round(value, 4) for name, value in result.items()}, flush=True)
    return result


def _network(size: str) -> Any:
    """FunASR's network with the weights of `random:large`, or of `random:tiny`."""
    with TemporaryDirectory() as name:
        directory = write_directory(Path(name), **(LARGE if size == "large" else {}))
        shapes = checkpoint_shapes(ModelConfig.from_directory(directory))
        from omegaconf import OmegaConf  # noqa: PLC0415 (FunASR's own need)

        conf = OmegaConf.load(directory / "config.yaml")
    network = _network_class()(model_conf=conf.model_conf, vocab_size=len(TOKENS))
    state = {
        name.removeprefix("d2v_model."): random_tensor(name, shape, 0)
        for name, shape in shapes.items()
    }
    unknown = network.load_state_dict(state, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"the reference knows no {unknown}")
    return network.to(device()).eval()


def _network_class() -> Any:
    """`Emotion2vec`, without the package around it, which imports a hundred others."""
    if "funasr" not in sys.modules:
        spec = importlib.util.find_spec("funasr")
        if spec is None:
            raise ModuleNotFoundError("funasr is not there: the wheel alone is enough")
        package = types.ModuleType("funasr")
        package.__path__ = list(spec.submodule_search_locations or ())
        reading = types.ModuleType("funasr.utils.load_utils")
        reading.load_audio_text_image_video = lambda clips, **_: list(  # type: ignore[attr-defined]
            map(torch.from_numpy, clips)
        )
        sys.modules |= {"funasr": package, "funasr.utils.load_utils": reading}
        import setuptools  # noqa: F401, PLC0415 (brings distutils, which Python 3.12 has not)
    from funasr.models.emotion2vec.model import Emotion2vec  # noqa: PLC0415

    return Emotion2vec


class _Tokenizer:
    token_list = TOKENS


@torch.no_grad()
def _alone(network: Any, clip: Samples) -> Scores:
    results, _ = network.inference([clip], tokenizer=_Tokenizer, device=device(), key=["clip"])
    return np.array(results[0]["scores"])


@torch.no_grad()
def _padded(network: Any, clips: Sequence[Samples], size: int) -> Scores:
    """Sorted by length, so that little is padded; results in the order of the clips."""
    order = sorted(range(len(clips)), key=lambda number: len(clips[number]))
    scores: dict[int, Scores] = {}
    for start in range(0, len(order), size):
        numbers = order[start : start + size]
        lengths = torch.tensor([len(clips[number]) for number in numbers])
        source = torch.zeros(len(numbers), int(lengths.max()))
        for row, number in enumerate(numbers):
            samples = torch.from_numpy(clips[number])
            source[row, : len(samples)] = F.layer_norm(samples, samples.shape)
        padding = torch.arange(source.shape[1])[None] >= lengths[:, None]
        with torch.autocast(device().type, torch.float16, enabled=device().type == "cuda"):
            out = network.extract_features(
                source.to(device()),
                padding_mask=padding.to(device()) if padding.any() else None,
            )
        frames = out["x"].float()
        if out["padding_mask"] is None:
            mean = frames.mean(dim=1)
        else:
            there = ~out["padding_mask"][:, :, None]
            mean = (frames * there).sum(dim=1) / there.sum(dim=1)
        rows = torch.softmax(network.proj(mean), dim=-1).cpu().numpy()
        scores |= dict(zip(numbers, rows, strict=True))
    return np.stack([scores[number] for number in range(len(clips))])
