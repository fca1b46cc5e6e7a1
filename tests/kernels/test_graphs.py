"""A rung of the ladder, which a CUDA graph is captured of, computes here as on a device."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.engine.test_parity import FRAME_TOLERANCE, SCORE_TOLERANCE, parity_segments
from tests.unit.model.parity import (
    CHECKPOINTS,
    clip_of,
    loaded,
    noise,
    references,
    segments_of,
    tape_of,
)
from worker.clip import SAMPLE_RATE_HZ, num_frames
from worker.engine.eager import SegmentOutput, layout_of, outputs_of
from worker.engine.engine import Engine
from worker.engine.graphs import Rung
from worker.engine.ladder import LADDER, rungs
from worker.engine.tables import edges, max_segments
from worker.model.model import Model
from worker.model.synthetic import architecture
from worker.model.tape_operations import GpuNetwork
from worker.settings import WorkerSettings
from worker.tape import Segment, TapeLayout

SLOTS = 200
SHORT = ["01_yes", "11_one_frame_400_samples"]  # what fits such a tape, with strangers


class Run:
    """A rung, and tapes through it as the ladder sends them."""

    def __init__(self, model: Model, *, slots: int = SLOTS, gpu: GpuNetwork | None = None) -> None:
        self.model = model
        self.rung = Rung(model, gpu or GpuNetwork(model), slots)

    @torch.inference_mode()
    def __call__(self, segments: list[Segment]) -> list[SegmentOutput]:
        """Run one tape."""
        layout = layout_of(segments, self.model.config, slots=self.rung.slots)
        self.rung.samples.copy_(torch.from_numpy(tape_of(segments, layout)))
        self.rung.about.copy_(torch.from_numpy(self.rung.tables.of(layout)))
        frames, embeddings = self.rung.step()
        runs = [frames[slots].float().numpy().copy() for slots in layout.frame_slots()]
        return outputs_of(
            segments, embeddings[: len(segments)].numpy(), runs, self.model.classifier
        )


def assert_reference(
    model: Model, checkpoint: str, outputs: dict[str, SegmentOutput], scores_within: float
) -> None:
    """The outputs by clip are the reference's; the frames too, in float32."""
    for name, output in outputs.items():
        expected = references(checkpoint)[name]
        assert output.frames is not None
        if model.dtype is torch.float32:
            assert np.abs(output.frames - expected.frames).max() < FRAME_TOLERANCE, name
        scores = np.array(list(Engine(model).pool([output]).scores.values()))
        assert np.abs(scores - expected.scores).max() < scores_within, name


def run_short_clips(run: Run) -> dict[str, SegmentOutput]:
    """The short parity clips, a loud stranger and an unused tail; after a full tape of others."""
    run([s for i in range(2) for s in segments_of(clip_of(noise(28_000, seed=i)))])
    first, last = parity_segments(SHORT)
    (stranger,) = segments_of(clip_of(30 * noise(9_000)))
    outputs = run([first, stranger, last])
    return dict(zip(SHORT, (outputs[0], outputs[2]), strict=True))


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize(
    ("dtype", "scores_within"),
    # Triton's interpreter cannot multiply bfloat16: that is left to tests/gpu.
    [(torch.float32, SCORE_TOLERANCE), (torch.float16, 0.02)],
)
def test_a_rung_is_the_reference(
    checkpoint: str, dtype: torch.dtype, scores_within: float, tmp_path: Path
) -> None:
    """Kernels, fixed length, unused slots, memory of the tape before: nothing shows."""
    model = loaded(checkpoint, tmp_path, dtype)
    assert_reference(model, checkpoint, run_short_clips(Run(model)), scores_within)


@pytest.mark.parametrize(
    ("dtype", "scores_within"), [(torch.float32, SCORE_TOLERANCE), (torch.float16, 0.02)]
)
def test_a_nan_stays_in_its_clip(dtype: torch.dtype, scores_within: float, tmp_path: Path) -> None:
    """On a rung too, where all clips are in the same blocks."""
    model = loaded("tiny", tmp_path, dtype)
    bad = clip_of(noise(9_000))
    bad.samples[5_000] = np.nan  # past normalization, which would refuse it
    first, last = parity_segments(SHORT)
    outputs = Run(model)([first, *segments_of(bad), last])
    assert outputs[1].error is not None
    good = dict(zip(SHORT, (outputs[0], outputs[2]), strict=True))
    assert_reference(model, "tiny", good, scores_within)


def test_a_token_that_is_not_finite_is_no_answer(tmp_path: Path) -> None:
    """All frames have seen it: a mean of them would be wrong, though it is finite."""
    model = loaded("tiny", tmp_path)
    model.network.extra_tokens[3, 5] = np.nan
    assert all(output.error is not None for output in Run(model)(parity_segments(SHORT)))


def test_the_ladder_ends_at_the_tape_budget() -> None:
    """Every tape within the budget has a rung, and none is longer."""
    assert rungs(16_384) == list(LADDER)
    assert rungs(3_000) == [128, 288, 544, 800, 1056, 1312, 1568, 2048, 2560, 3000]
    assert rungs(100) == [100]


def test_a_tape_of_the_longest_windows_leaves_little_idle() -> None:
    """Long audio is nothing but those: as many as fit run as hardly more slots than they take."""
    seconds = WorkerSettings.model_fields["window_seconds"].default
    slots = num_frames(round(seconds * SAMPLE_RATE_HZ)) + architecture("large").gap
    used_slots = max(LADDER) // slots * slots
    assert used_slots / min(rung for rung in LADDER if rung >= used_slots) > 0.99


def test_edges_are_the_frames_between_the_gaps() -> None:
    """Where each segment's frames begin and end; those of absent segments are empty."""
    layout = TapeLayout(gap=10, extra_tokens=10, frames=(5, 1), tail=14)
    assert max_segments(layout.slots, gap=10) == 3
    assert edges(layout, segments=3).tolist() == [[10, 25, 0], [15, 26, 0]]


def test_a_rung_that_is_full_of_segments_gives_each_its_own(tmp_path: Path) -> None:
    """The last one that fits too, with a tail behind it that nobody uses."""
    model = loaded("tiny", tmp_path)
    run = Run(model, slots=128)
    one = [segments_of(clip_of(noise(400, seed)))[0] for seed in range(run.rung.tables.segments)]
    assert 128 - run.rung.tables.segments * (model.config.gap + 1) > 0
    together = run(one)
    for number in (0, len(one) - 1):
        output, (alone,) = together[number], run(one[number : number + 1])
        assert output.embedding is not None
        assert alone.embedding is not None
        assert np.abs(output.embedding - alone.embedding).max() < FRAME_TOLERANCE
