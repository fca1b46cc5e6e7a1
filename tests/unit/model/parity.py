"""The parity checkpoints, their clips, and what the reference implementation gives for them."""

import shutil
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from worker.clip import FRAME_STRIDE, Clip, Pcm, Samples, Window
from worker.engine.packing import normalized, pack, row_scales, tape_memory
from worker.model.model import Model
from worker.model.weights import load
from worker.stages.normalize import Normalize
from worker.tape import Segment, TapeLayout

DATA = Path(__file__).parents[2] / "data" / "parity"
CHECKPOINTS = ("tiny", "tiny-odd")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Reference:
    """What the reference gives for a clip: scores (9,), embedding (dim,), frames (n, dim)."""

    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]
    frames: NDArray[np.float32]


@cache
def waveforms() -> dict[str, Samples]:
    """The clips by name: float32 (num_samples,) in [-1, 1]."""
    found = {}
    for path in sorted((DATA / "wav").glob("*.wav")):
        with wave.open(str(path)) as file:
            pcm = np.frombuffer(file.readframes(file.getnframes()), dtype=np.int16)
        found[path.stem] = pcm.astype(np.float32) / np.float32(32768)
    return found


@cache
def references(checkpoint: str) -> dict[str, Reference]:
    """The reference's results by clip."""
    with np.load(DATA / checkpoint / "expected.npz") as arrays:
        return {
            name: Reference(*(arrays[f"{name}/{k}"] for k in ("scores", "embedding", "frames")))
            for name in waveforms()
        }


def copied(checkpoint: str, into: Path) -> Path:
    """A copy of a checkpoint's directory, since loading writes a file beside the weights."""
    not_copies = shutil.ignore_patterns("*.safetensors*")
    return Path(shutil.copytree(DATA / checkpoint, into / checkpoint, ignore=not_copies))


def loaded(
    checkpoint: str, into: Path, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> Model:
    """A checkpoint, run by one CPU thread: on busy cores, several wait for each other."""
    torch.set_num_threads(1)
    return load(copied(checkpoint, into), device=device, dtype=dtype)


def clip_of(samples: Pcm, window_seconds: float = 30.0) -> Clip:
    """A clip, normalized as the pipeline does it."""
    return Normalize(window_seconds).clip(samples)


def segments_of(clip: Clip, *, keep_frames: bool = True) -> list[Segment]:
    """A segment for each window of the clip."""
    return [Segment(clip, window, keep_frames) for window in clip.windows]


def tape_of(segments: Sequence[Segment], layout: TapeLayout) -> Samples:
    """What the network is given for the segments: float32 (num_samples,)."""
    memory = torch.full((tape_memory(layout.slots),), torch.nan)
    raw = pack(segments, layout, memory)
    scales = torch.from_numpy(row_scales(segments, layout))
    tape: Samples = normalized(raw, scales)[: layout.num_samples].numpy()
    return tape


def written(clip: Clip, window: Window) -> Samples:
    """A window's normalized samples: float32 (frame_samples(frames),)."""
    layout = TapeLayout(gap=1, extra_tokens=1, frames=(window.frames,))
    return tape_of([Segment(clip, window)], layout)[FRAME_STRIDE:]


def noise(num_samples: int, seed: int = 0) -> Samples:
    """Random samples of a length."""
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.1, num_samples).astype(np.float32)
