"""Our frames and scores are the reference implementation's, whatever a clip is batched with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.unit.model.parity import (
    CHECKPOINTS,
    clip_of,
    loaded,
    noise,
    references,
    segments_of,
    waveforms,
)
from worker.engine.eager import SegmentOutput
from worker.engine.engine import Engine
from worker.tape import Segment

FRAME_TOLERANCE = 1e-4
SCORE_TOLERANCE = 1e-5
HALF_TOLERANCE = 0.02

NAMES = tuple(waveforms())


@pytest.fixture(scope="module", params=CHECKPOINTS)
def checkpoint(request: pytest.FixtureRequest) -> str:
    """The name of a parity checkpoint."""
    return str(request.param)


@pytest.fixture(scope="module")
def engine(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine in float32 that takes all the clips on one tape."""
    model = loaded(checkpoint, tmp_path_factory.mktemp("model"))
    return Engine(model, tape_slots=4096)


def parity_segments(names: Sequence[str] = NAMES) -> list[Segment]:
    """One segment for each of the clips."""
    return [segment for name in names for segment in segments_of(clip_of(waveforms()[name]))]


def assert_parity(
    engine: Engine, checkpoint: str, names: Sequence[str], outputs: Sequence[SegmentOutput]
) -> None:
    """Every frame and every score is the reference's, within the tolerances."""
    for name, output in zip(names, outputs, strict=True):
        reference = references(checkpoint)[name]
        assert output.error is None
        assert output.frames is not None
        assert output.frames.shape == reference.frames.shape
        assert np.abs(output.frames - reference.frames).max() < FRAME_TOLERANCE, name
        prediction = engine.pool([output])
        assert np.abs(prediction.embedding - reference.embedding).max() < FRAME_TOLERANCE, name
        scores = np.array(list(prediction.scores.values()))
        assert np.abs(scores - reference.scores).max() < SCORE_TOLERANCE, name


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_alone_is_the_reference(engine: Engine, checkpoint: str, name: str) -> None:
    """Each clip on a tape of its own."""
    assert_parity(engine, checkpoint, [name], engine.run(parity_segments([name])))


def test_all_clips_on_one_tape_are_the_reference(engine: Engine, checkpoint: str) -> None:
    """All clips side by side on one tape."""
    segments = parity_segments()
    assert sum(engine.slots(segment.window) for segment in segments) <= engine.tape_slots
    assert_parity(engine, checkpoint, NAMES, engine.run(segments))


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_among_strangers_they_are_the_reference(
    engine: Engine, checkpoint: str, seed: int
) -> None:
    """In any order, between random clips of any length, loud and quiet."""
    rng = np.random.default_rng(seed)
    names = list(rng.permutation(NAMES))
    segments: list[Segment] = []
    mine = []
    for name in names:
        for _ in range(rng.integers(0, 3)):
            stranger = noise(int(rng.integers(400, 20_000)), seed) * rng.choice([1e-3, 1.0, 30.0])
            segments += segments_of(clip_of(stranger.astype(np.float32)))
        mine.append(len(segments))
        segments += parity_segments([name])
    outputs = engine.run(segments)
    assert len(outputs) == len(segments)
    assert_parity(engine, checkpoint, names, [outputs[i] for i in mine])


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lengths=st.lists(st.integers(400, 48_000), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_any_mix_gives_what_each_gives_alone(engine: Engine, lengths: list[int], seed: int) -> None:
    """Clips of any lengths from one frame up."""
    clips = [clip_of(noise(length, seed + i)) for i, length in enumerate(lengths)]
    segments = [segment for clip in clips for segment in segments_of(clip)]
    together = engine.run(segments)
    alone = [engine.run([segment])[0] for segment in segments]
    for ours, own in zip(together, alone, strict=True):
        assert ours.frames is not None
        assert own.frames is not None
        assert np.abs(ours.frames - own.frames).max() < FRAME_TOLERANCE


def test_one_tape_or_many_give_the_same(engine: Engine, checkpoint: str) -> None:
    """A batch that is cut into several tapes comes back whole and in order."""
    small = Engine(engine.model, tape_slots=500, window_seconds=9.0)
    names = [name for name in NAMES if name != "07_long"]
    assert_parity(small, checkpoint, names, small.run(parity_segments(names)))


def test_a_nan_stays_in_its_clip(engine: Engine, checkpoint: str) -> None:
    """A clip with a NaN or an infinity fails alone; its neighbours are still the reference."""
    good = parity_segments(["01_yes", "03_excited", "11_one_frame_400_samples"])
    names = ["01_yes", "03_excited", "11_one_frame_400_samples"]
    bad = []
    for value in (np.nan, np.inf):
        clip = clip_of(noise(16_000))
        clip.samples[9_000] = value  # past normalization, which would refuse it
        bad += segments_of(clip)
        clip = clip_of(noise(16_000))
        clip.samples[:] = value
        bad += segments_of(clip)
    outputs = engine.run([good[0], bad[0], bad[1], good[1], bad[2], bad[3], good[2]])
    assert_parity(engine, checkpoint, names, [outputs[0], outputs[3], outputs[6]])
    for output in (outputs[1], outputs[2], outputs[4], outputs[5]):
        assert output.error is not None
        assert output.error.code == "internal"
        with pytest.raises(type(output.error), match="not finite"):
            engine.pool([output])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_agrees(checkpoint: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """No score moves by more than 0.02, nor the label where float32 is sure by 0.02."""
    engine = Engine(loaded(checkpoint, tmp_path, dtype), tape_slots=4096)
    expected = [references(checkpoint)[name].scores for name in NAMES]
    assert_agreement(engine, engine.run(parity_segments()), expected)


def assert_agreement(
    engine: Engine,
    outputs: Sequence[SegmentOutput],
    expected: Sequence[NDArray[np.float32]],
    tolerance: float = HALF_TOLERANCE,
) -> None:
    """No score is further off, and a label that is sure by 0.02 stays."""
    for output, exact in zip(outputs, expected, strict=True):
        scores = np.array(list(engine.pool([output]).scores.values()))
        assert np.abs(scores - exact).max() < tolerance
        second, first = np.sort(exact)[-2:]
        assert first - second <= HALF_TOLERANCE or scores.argmax() == exact.argmax()
