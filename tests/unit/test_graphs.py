"""A rung of the ladder, which a CUDA graph is captured of, computes here as on a device."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.model.parity import CHECKPOINTS, clip_of, loaded, noise, references, segments_of
from tests.unit.test_parity import FRAME_TOLERANCE, SCORE_TOLERANCE, parity_segments
from worker.engine import Engine
from worker.graphs import LADDER, Rung, bags, max_segments, rungs
from worker.model.attention import flex
from worker.model.fused import EAGER, Fused, compiled
from worker.model.model import Model
from worker.tape import Segment, TapeLayout
from worker.tapes import SegmentOutput, layout_of, outputs_of

SLOTS = 400
SHORT = ["01_yes", "11_one_frame_400_samples"]  # what fits such a tape, with strangers

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")


class Run:
    """A rung, and tapes through it as the ladder sends them."""

    def __init__(self, model: Model, fused: Fused = EAGER, attention: Any = flex) -> None:
        self.model = model
        self.rung = Rung(model, SLOTS, fused=fused, flex=attention)

    @torch.inference_mode()
    def __call__(self, segments: list[Segment]) -> list[SegmentOutput]:
        """Run one tape."""
        layout = layout_of(segments, self.model.config, slots=SLOTS)
        layout.write(segments, self.rung.samples.numpy())
        self.rung.about.copy_(torch.from_numpy(self.rung.describe(layout)))
        frames, embeddings = self.rung.step()
        runs = [frames[slots].numpy().copy() for slots in layout.frame_slots()]
        return outputs_of(segments, embeddings[: len(segments)].numpy(), runs)


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
    run([s for i in range(4) for s in segments_of(clip_of(noise(28_000, seed=i)))])
    first, last = parity_segments(SHORT)
    (stranger,) = segments_of(clip_of(30 * noise(9_000)))
    outputs = run([first, stranger, last])
    return dict(zip(SHORT, (outputs[0], outputs[2]), strict=True))


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
@pytest.mark.parametrize(
    ("dtype", "scores_within"),
    [(torch.float32, SCORE_TOLERANCE), (torch.bfloat16, 0.02), (torch.float16, 0.02)],
)
def test_a_rung_is_the_reference(
    checkpoint: str, dtype: torch.dtype, scores_within: float, tmp_path: Path
) -> None:
    """FlexAttention, fixed length, unused slots, memory of the tape before: nothing shows."""
    model = loaded(checkpoint, tmp_path, dtype)
    assert_reference(model, checkpoint, run_short_clips(Run(model)), scores_within)


@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")),
    reason="NO C++ COMPILER: the compiled attention is not tested on this machine",
)
def test_a_compiled_rung_is_the_reference(tmp_path: Path) -> None:
    """What the compiler makes of attention and norms; one program for all layers and tapes."""
    model = loaded("tiny", tmp_path)
    programs: list[int] = []
    attention = torch.compile(flex, dynamic=False, fullgraph=True, backend=counting(programs))
    run = Run(model, compiled(), attention)
    outputs = run_short_clips(run)
    assert_reference(model, "tiny", outputs, SCORE_TOLERANCE)
    assert len(programs) == 1


def counting(programs: list[int]) -> Callable[..., object]:
    """The usual compiler, which notes how often it is called."""

    def compile_and_count(graph: torch.fx.GraphModule, inputs: list[Any]) -> object:
        programs.append(len(inputs))
        return torch._inductor.compile(graph, inputs)

    return compile_and_count


def test_a_nan_stays_in_its_clip(tmp_path: Path) -> None:
    """On a rung too, though all means are taken by one kernel."""
    model = loaded("tiny", tmp_path)
    bad = clip_of(noise(9_000))
    bad.waveform.samples[5_000] = np.nan  # past normalization, which would refuse it
    first, last = parity_segments(SHORT)
    outputs = Run(model)([first, *segments_of(bad), last])
    assert outputs[1].error is not None
    good = dict(zip(SHORT, (outputs[0], outputs[2]), strict=True))
    assert_reference(model, "tiny", good, SCORE_TOLERANCE)


def test_the_ladder_ends_at_the_tape_budget() -> None:
    """Every tape within the budget has a rung, and none is longer."""
    assert rungs(16_384) == list(LADDER)
    assert rungs(3_000) == [128, 288, 512, 768, 1024, 1536, 2048, 3000]
    assert rungs(100) == [100]


def test_bags_are_the_frames_between_the_gaps() -> None:
    """Every second bag is a segment's frames; those of absent segments are empty."""
    layout = TapeLayout(gap=10, extra_tokens=10, frames=(5, 1), tail=14)
    assert max_segments(layout.slots, gap=10) == 3
    assert bags(layout, segments=3).tolist() == [0, 10, 15, 25, 26, 26, 26]
