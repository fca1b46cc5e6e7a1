"""The engine on a CUDA device holds to the same reference as on the CPU."""

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch
from numpy.typing import NDArray

from storage.errors import OutOfMemory
from tests.unit.engine.test_parity import (
    FRAME_TOLERANCE,
    NAMES,
    assert_agreement,
    assert_parity,
    parity_segments,
)
from tests.unit.model.parity import CHECKPOINTS, clip_of, loaded, noise, references, segments_of
from worker.engine import ladder
from worker.engine.engine import CUDNN_PLANS_VARIABLE, Engine
from worker.model.model import Model
from worker.model.synthetic import synthetic
from worker.tape import Segment

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="NO CUDA DEVICE: nothing of the GPU path is tested on this machine",
    ),
]
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def short_ladder(monkeypatch: pytest.MonkeyPatch) -> None:
    """One program serves all rungs; a few of them are enough."""
    monkeypatch.setattr(ladder, "LADDER", (128, 1056))


@pytest.fixture(params=[True, False], ids=["graphs", "eager"])
def graphs(request: pytest.FixtureRequest) -> bool:
    """Both forms of attention: in blocks inside captured graphs, and per segment without."""
    return bool(request.param)


def warm_engine(model: Model, *, graphs: bool, tape_slots: int = 4096) -> Engine:
    """An engine that has captured what it captures, or has said that it could not."""
    engine = Engine(model, tape_slots=tape_slots, graphs=graphs)
    with structlog.testing.capture_logs() as logs:
        engine.warm_up()
    assert ("engine.captured" in [entry["event"] for entry in logs]) == graphs, logs
    return engine


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_float32_is_the_reference(checkpoint: str, graphs: bool, tmp_path: Path) -> None:
    """All clips on one tape, and each alone: frames within 1e-4, scores within 1e-5."""
    engine = warm_engine(loaded(checkpoint, tmp_path, device=CUDA), graphs=graphs)
    assert_parity(engine, checkpoint, NAMES, engine.run(parity_segments()))
    for name in NAMES:
        assert_parity(engine, checkpoint, [name], engine.run(parity_segments([name])))


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees(
    checkpoint: str, dtype: torch.dtype, graphs: bool, tmp_path: Path
) -> None:
    """No score moves by more than 0.02, nor the label where float32 is sure by 0.02."""
    engine = warm_engine(loaded(checkpoint, tmp_path, dtype, CUDA), graphs=graphs)
    expected = [references(checkpoint)[name].scores for name in NAMES]
    assert_agreement(engine, engine.run(parity_segments()), expected)


def large_clips() -> tuple[list[Segment], list[NDArray[np.float32]]]:
    """Noise and the parity clips, and what `random:large` gives for them in float32."""
    segments = parity_segments()
    for seconds in (0.5, 1.5, 5.0, 12.0):
        segments += segments_of(clip_of(noise(int(16_000 * seconds), seed=int(10 * seconds))))
    exact = Engine(synthetic("large", device=CUDA, dtype=torch.float32), tape_slots=4096)
    outputs = exact.run(segments)
    return segments, [np.array(list(exact.pool([output]).scores.values())) for output in outputs]


def test_float16_agrees_on_the_large_model(graphs: bool) -> None:
    """No score of random weights moves by 0.008, nor the label where float32 is sure by 0.02."""
    segments, expected = large_clips()
    engine = warm_engine(synthetic("large", device=CUDA, dtype=torch.float16), graphs=graphs)
    assert_agreement(engine, engine.run(segments), expected, 0.008)


def test_bfloat16_scores_stay_near_on_the_large_model(graphs: bool) -> None:
    """Rounding these random weights to bfloat16, and nothing else, moves scores by up to 0.06."""
    segments, expected = large_clips()
    engine = warm_engine(synthetic("large", device=CUDA, dtype=torch.bfloat16), graphs=graphs)
    for output, exact in zip(engine.run(segments), expected, strict=True):
        scores = np.array(list(engine.pool([output]).scores.values()))
        assert np.abs(scores - exact).max() < 0.15


@pytest.mark.xfail(
    reason="on an H200 a label changed that float32 is sure of by 0.023, with graphs and without: "
    "docs/decisions/0006-float16-on-gpus.md"
)
def test_bfloat16_labels_stay_on_the_large_model(graphs: bool) -> None:
    """Those of which float32 is sure by 0.02: what is asked of every dtype, and not met here."""
    segments, expected = large_clips()
    engine = warm_engine(synthetic("large", device=CUDA, dtype=torch.bfloat16), graphs=graphs)
    assert_agreement(engine, engine.run(segments), expected, 0.15)


def test_a_nan_stays_in_its_clip(graphs: bool, tmp_path: Path) -> None:
    """A clip that is not finite fails alone, on the device as well."""
    engine = warm_engine(loaded("tiny", tmp_path, device=CUDA), graphs=graphs)
    bad = clip_of(noise(16_000))
    bad.samples[9_000] = np.nan  # past normalization, which would refuse it
    first, second = parity_segments(["01_yes", "03_excited"])
    outputs = engine.run([first, *segments_of(bad), second])
    assert_parity(engine, "tiny", ["01_yes", "03_excited"], [outputs[0], outputs[2]])
    assert outputs[1].error is not None


def test_a_tape_that_is_full_of_segments_gives_each_its_own(tmp_path: Path) -> None:
    """Of one frame each, up to the last that fits a rung, with a tail behind it."""
    engine = warm_engine(loaded("tiny", tmp_path, device=CUDA), graphs=True)
    most = 128 // (engine.model.config.gap + 1)
    segments = [s for seed in range(most) for s in segments_of(clip_of(noise(400, seed)))]
    together = engine.run(segments)
    for segment, output in zip(segments, together, strict=True):
        (alone,) = engine.run([segment])
        assert output.embedding is not None
        assert alone.embedding is not None
        assert np.abs(output.embedding - alone.embedding).max() < FRAME_TOLERANCE


def test_two_tapes_overlap_and_none_is_mixed_up(tmp_path: Path) -> None:
    """The second is sent before the first is collected; every tape gives its own clips' results."""
    engine = warm_engine(loaded("tiny", tmp_path, device=CUDA), graphs=True)
    batches = [[name] * 3 for name in NAMES] * 3
    ahead = None
    for number in range(len(batches) + 1):
        started = engine.start(parity_segments(batches[number])) if batches[number:] else None
        if ahead is not None:
            assert_parity(engine, "tiny", batches[number - 1], engine.finish(ahead))
        ahead = started
    assert engine.device_seconds > 0


def test_nothing_is_compiled_or_captured_after_the_warm_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lengths come, on every rung."""
    triton = pytest.importorskip("triton")
    engine = warm_engine(loaded("tiny", tmp_path, device=CUDA), graphs=True)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("compiled or captured after the warm-up")

    monkeypatch.setattr(torch.cuda.CUDAGraph, "capture_begin", refuse)
    monkeypatch.setattr(triton.knobs.runtime, "jit_cache_hook", refuse)
    for num_samples in (400, 8_000, 40_000, 80_000, 160_000, 480_000):
        for count in (1, 2, 7):
            outputs = engine.run(segments_of(clip_of(noise(num_samples))) * count)
            assert all(output.error is None for output in outputs)


@contextmanager
def only_free(free_bytes: int) -> Iterator[None]:
    """Most of the device's memory taken."""
    torch.cuda.empty_cache()
    there, _ = torch.cuda.mem_get_info(CUDA)
    taken = torch.empty(there - free_bytes, dtype=torch.uint8, device=CUDA)
    try:
        yield
    finally:
        del taken
        torch.cuda.empty_cache()


def peak_bytes(run: Callable[[], object]) -> int:
    """Memory that something takes at most, beyond what is held now."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(CUDA)
    torch.cuda.reset_peak_memory_stats(CUDA)
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(CUDA) - before


def test_running_out_of_memory_halves_the_tape() -> None:
    """With too little room for a full tape, every clip still comes back, or says why not."""
    model = synthetic("large", device=CUDA, dtype=torch.bfloat16)
    engine = Engine(model, tape_slots=16_384, graphs=False)
    segments = segments_of(clip_of(noise(30 * 16_000)), keep_frames=False) * 10
    wanted = peak_bytes(lambda: engine.run(segments))
    # Some of it a tape takes however short it is: the front end's run of frames.
    with only_free(wanted * 4 // 5):
        outputs = engine.run(segments)
    assert len(outputs) == 10
    assert engine.tape_slots < 16_384
    assert all(o.error is None or isinstance(o.error, OutOfMemory) for o in outputs)
    assert any(o.error is None for o in outputs)


def test_a_ladder_that_does_not_fit_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warm-up ends with a ladder that fits, and says so."""
    gpu_tuning = pytest.importorskip("worker.model.gpu_tuning")
    model = synthetic("large", device=CUDA, dtype=torch.bfloat16)
    # The usual ways, whose memory is known.
    monkeypatch.setattr(gpu_tuning, "tune_gpu", lambda *_, **__: None)
    wanted = peak_bytes(Engine(model, tape_slots=16_384).warm_up)
    engine = Engine(model, tape_slots=16_384)
    with only_free(wanted // 2), structlog.testing.capture_logs() as logs:
        engine.warm_up()
        (output,) = engine.run(segments_of(clip_of(noise(80_000)), keep_frames=False))
    assert output.error is None
    assert engine.tape_slots < 16_384
    assert "engine.captured" in [entry["event"] for entry in logs]


def test_torch_knows_the_limit_of_plans() -> None:
    """By the name that an engine sets: one that it has not would bound nothing, without a word."""
    name = CUDNN_PLANS_VARIABLE.encode()

    def has_it(library: Path) -> bool:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as it:
            return it.find(name) >= 0

    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cuda*.so"))
    assert any(map(has_it, libraries)), libraries
