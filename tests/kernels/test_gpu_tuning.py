"""Ways to compute the same on a GPU: each is exact, and the fastest is taken."""

from dataclasses import replace
from pathlib import Path

import pytest
import structlog
import torch

from tests.kernels.test_graphs import SHORT, Run, assert_reference, run_short_clips
from tests.unit.engine.test_parity import HALF_TOLERANCE, SCORE_TOLERANCE, parity_segments
from tests.unit.model.parity import loaded
from worker.model import gpu_tuning, tuning
from worker.model.gpu_tuning import _parts, tune_gpu
from worker.model.tape_operations import GpuNetwork


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
        # By the library, where another part's ways are compared: an interpreter is slow.
        gpu.ways = ways if part == "positional" else replace(ways, positional="convolution")
        outputs = dict(
            zip(SHORT, Run(model, gpu=gpu, slots=128)(parity_segments(SHORT)), strict=True)
        )
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
