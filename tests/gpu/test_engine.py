"""The engine on a CUDA device holds to the same reference as on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from storage.errors import OutOfMemory
from tests.unit.model.parity import CHECKPOINTS, clip_of, loaded, noise, references, segments_of
from tests.unit.test_parity import NAMES, assert_parity, parity_segments
from worker.engine import Engine
from worker.model.synthetic import synthetic

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="NO CUDA DEVICE: nothing of the GPU path is tested on this machine",
    ),
]
CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_float32_is_the_reference(checkpoint: str, tmp_path: Path) -> None:
    """All clips on one tape, and each alone: frames within 1e-4, scores within 1e-5."""
    engine = Engine(loaded(checkpoint, tmp_path, device=CUDA), tape_slots=4096)
    assert_parity(engine, checkpoint, NAMES, engine.run(parity_segments()))
    for name in NAMES:
        assert_parity(engine, checkpoint, [name], engine.run(parity_segments([name])))


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees(checkpoint: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """No score moves by more than 0.02, nor the label where float32 is sure by 0.02."""
    engine = Engine(loaded(checkpoint, tmp_path, dtype, CUDA), tape_slots=4096)
    for name, output in zip(NAMES, engine.run(parity_segments()), strict=True):
        expected = references(checkpoint)[name].scores
        scores = np.array(list(engine.pool([output]).scores.values()))
        assert np.abs(scores - expected).max() < 0.02, name
        second, first = np.sort(expected)[-2:]
        assert first - second <= 0.02 or scores.argmax() == expected.argmax(), name


def test_a_nan_stays_in_its_clip(tmp_path: Path) -> None:
    """A clip that is not finite fails alone, on the device as well."""
    engine = Engine(loaded("tiny", tmp_path, device=CUDA), tape_slots=4096)
    bad = clip_of(noise(16_000))
    bad.waveform.samples[9_000] = np.nan  # past normalization, which would refuse it
    first, second = parity_segments(["01_yes", "03_excited"])
    outputs = engine.run([first, *segments_of(bad), second])
    assert_parity(engine, "tiny", ["01_yes", "03_excited"], [outputs[0], outputs[2]])
    assert outputs[1].error is not None


def test_running_out_of_memory_halves_the_tape() -> None:
    """With most of the device's memory taken, every clip still comes back, or says why not."""
    engine = Engine(synthetic("large", device=CUDA, dtype=torch.bfloat16), tape_slots=16_384)
    free_bytes, _ = torch.cuda.mem_get_info(CUDA)
    taken = torch.empty(free_bytes - 600 * 2**20, dtype=torch.uint8, device=CUDA)
    segments = segments_of(clip_of(noise(30 * 16_000)), keep_frames=False) * 10
    try:
        outputs = engine.run(segments)
    finally:
        del taken
        torch.cuda.empty_cache()
    assert len(outputs) == 10
    assert engine.tape_slots < 16_384
    assert all(o.error is None or isinstance(o.error, OutOfMemory) for o in outputs)
    assert any(o.error is None for o in outputs)
