"""The engine: windows, pooling, tapes that do not fit, and what it refuses."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import structlog
import torch
from torch import Tensor

from storage.errors import Internal, OutOfMemory
from tests.unit.model.parity import clip_of, loaded, noise, segments_of, waveforms
from worker.clip import Window
from worker.engine import engine as engine_module
from worker.engine.eager import SegmentOutput
from worker.engine.engine import CUDNN_PLANS, CUDNN_PLANS_VARIABLE, Engine
from worker.engine.ladder import LADDER
from worker.model.convolutions import FrontEndConv
from worker.model.model import Model
from worker.model.network import FRONT_END_FRAMES_CPU, Network
from worker.model.operations import TorchOperations
from worker.model.synthetic import architecture
from worker.tape import Segment, TapeLayout, max_tape_slots_cpu


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A parity checkpoint in float32."""
    return loaded("tiny", tmp_path_factory.mktemp("model"))


class SmallDevice:
    """A network on a device that has room for `slots` slots, and fails as torch fails."""

    def __init__(self, network: Network, slots: int, fail: Callable[[], object]) -> None:
        self.network, self.slots, self.fail = network, slots, fail
        self.tapes: list[int] = []
        self.tuned = True

    def __call__(self, samples: Tensor, layout: TapeLayout) -> Tensor:
        """Run the network, if the tape fits."""
        self.tapes.append(layout.slots)
        if layout.slots > self.slots:
            self.fail()
        slots: Tensor = self.network(samples, layout)
        return slots


def gpu_full() -> None:
    """Fail as CUDA's allocator does."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def cpu_full() -> None:
    """Make the CPU allocator fail in earnest."""
    torch.empty(2**45)


def small_device(model: Model, slots: int, fail: Callable[[], object] = gpu_full) -> Model:
    """The model on a device that is too small."""
    return replace(model, network=cast(Network, SmallDevice(model.network, slots, fail)))


def clips(*num_samples: int) -> list[Segment]:
    """A segment for each of the lengths."""
    return [s for i, n in enumerate(num_samples) for s in segments_of(clip_of(noise(n, i)))]


def assert_same(ours: list[SegmentOutput], expected: list[SegmentOutput]) -> None:
    """The outputs are those, in that order."""
    for a, b in zip(ours, expected, strict=True):
        assert a.embedding is not None
        assert b.embedding is not None
        assert np.abs(a.embedding - b.embedding).max() < 1e-4


def test_windows_of_a_long_clip_are_pooled_by_their_frames(model: Model) -> None:
    """The frames add up, and the scores are those of the mean over all of them."""
    engine = Engine(model)
    clip = clip_of(waveforms()["07_long"], window_seconds=4.0)
    outputs = engine.run(segments_of(clip))
    prediction = engine.pool(outputs)
    assert len(outputs) == 5
    assert prediction.frames is not None
    assert prediction.frames.shape == (901, 64)
    mean = prediction.frames.mean(axis=0, dtype=np.float64)
    assert np.abs(prediction.embedding - mean).max() < 1e-6
    scores = engine.scores(mean.astype(np.float32))
    assert np.abs(scores - np.array(list(prediction.scores.values()))).max() < 1e-6
    assert prediction.label == model.config.labels[int(scores.argmax())]
    assert prediction.score == max(prediction.scores.values())


def test_the_timeline_gives_each_window_its_time_and_scores(model: Model) -> None:
    """Spans follow each other without a hole, each with the scores of its own window."""
    engine = Engine(model)
    outputs = engine.run(segments_of(clip_of(waveforms()["07_long"], window_seconds=4.0)))
    timeline = engine.pool(outputs).timeline
    assert [span.start_seconds for span in timeline] == pytest.approx([0, 3.6, 7.2, 10.8, 14.4])
    assert [span.stop_seconds for span in timeline] == pytest.approx([3.6, 7.2, 10.8, 14.4, 18.02])
    for span, output in zip(timeline, outputs, strict=True):
        assert span.scores == engine.pool([output]).scores
        assert sum(span.scores.values()) == pytest.approx(1)


def test_frames_are_given_only_where_they_were_asked_for(model: Model) -> None:
    """Keeping every frame of every clip would hold their memory for nothing."""
    engine = Engine(model)
    clip = clip_of(noise(8_000))
    kept, dropped = engine.run(
        segments_of(clip, keep_frames=True) + segments_of(clip, keep_frames=False)
    )
    assert engine.pool([kept]).frames is not None
    assert engine.pool([dropped]).frames is None


def test_the_time_that_the_device_works_is_added_up(model: Model) -> None:
    """Of every tape that is finished; it is how operators see whether the device is the limit."""
    engine = Engine(model)
    started = time.perf_counter()
    engine.run(clips(16_000))
    first = engine.device_seconds
    engine.run(clips(16_000, 8_000))
    assert 0 < first < engine.device_seconds < time.perf_counter() - started


def test_nothing_gives_nothing(model: Model) -> None:
    """No segments, no outputs."""
    assert Engine(model).run([]) == []


@pytest.mark.parametrize("fail", [gpu_full, cpu_full])
def test_a_tape_that_does_not_fit_is_halved_for_good(
    model: Model, fail: Callable[[], object]
) -> None:
    """All clips get their result, and the next batch begins with a tape that fits."""
    segments = clips(*[16_000] * 8)  # 8 × 59 slots
    expected = Engine(model).run(segments)
    crowded = small_device(model, 240, fail)
    engine = Engine(crowded, tape_slots=2_000, window_seconds=1.0)
    with structlog.testing.capture_logs() as logs:
        outputs = engine.run(segments)
    assert_same(outputs, expected)
    assert engine.tape_slots == 236
    assert [entry["event"] for entry in logs] == ["engine.tape_halved"]
    device = cast(SmallDevice, crowded.network)
    device.tapes.clear()
    assert_same(engine.run(segments), expected)
    assert device.tapes == [236, 236]


def test_a_clip_that_does_not_fit_alone_fails_alone(model: Model) -> None:
    """Its error is retryable and says what to do; the clips beside it get their results."""
    engine = Engine(small_device(model, 100), window_seconds=5.0)
    before, too_long, after = engine.run(clips(8_000, 80_000, 8_000))
    assert before.error is None
    assert after.error is None
    assert isinstance(too_long.error, OutOfMemory)
    with pytest.raises(OutOfMemory, match="EMO_WINDOW_SECONDS"):
        engine.pool([too_long])
    assert engine.tape_slots >= engine.slots(Window(0, 249))  # a window must always be admitted


def test_any_other_fault_fails_only_its_cause(model: Model) -> None:
    """A bug is no lack of memory: the tape keeps its length, and the error says what happened."""

    def fail() -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    engine = Engine(small_device(model, 100, fail))
    before = engine.tape_slots
    long, short = engine.run(clips(80_000, 8_000))
    assert isinstance(long.error, Internal)
    assert "mat1" in str(long.error)
    assert short.error is None
    assert engine.tape_slots == before


def test_a_tape_has_room_for_a_window(model: Model) -> None:
    """By default a tape takes at least one window; a smaller one is refused by its setting."""
    assert 1_509 <= Engine(model).tape_slots <= max_tape_slots_cpu(torch.get_num_threads())
    assert Engine(model, window_seconds=60.0).tape_slots == 10 + 2_999
    with pytest.raises(ValueError, match="EMO_TAPE_SLOTS=1000: a window of 30"):
        Engine(model, tape_slots=1_000)
    with pytest.raises(ValueError, match="EMO_WINDOW_SECONDS=0"):
        Engine(model, window_seconds=0)


@pytest.mark.parametrize("told", [None, "7"])
def test_plans_of_convolutions_are_bounded(
    told: str | None, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, and before the first; whoever sets torch's variable has their own way."""
    name = CUDNN_PLANS_VARIABLE
    monkeypatch.setenv(name, told or "")
    if told is None:
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    Engine(model, tape_slots=2_000)
    assert os.environ.get(name) == told
    Engine(replace(model, device=torch.device("cuda", 0)), tape_slots=2_000)
    assert os.environ[name] == (told or str(CUDNN_PLANS))


def test_a_ladder_keeps_its_plans() -> None:
    """Each of the layers, on each rung and as each way is tried before; with room to spare."""
    layers = len(architecture("large").front_end) + 1  # the positional ones are alike
    ways = 3 * 2  # runs of frames, and what is left of a tape behind the last
    assert 2 * layers * (len(LADDER) + ways) < CUDNN_PLANS


def test_warm_up_runs_a_full_tape(model: Model) -> None:
    """What does not fit is found out before the first job."""
    crowded = small_device(model, 200)
    engine = Engine(crowded, tape_slots=500, window_seconds=1.0)
    engine.warm_up()
    assert engine.tape_slots < 500
    assert cast(SmallDevice, crowded.network).tapes[:2] == [11, 500]


def test_a_worker_starts_where_nothing_could_be_tried(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ways to compute may need memory that the usual one does not; it says so and goes on."""
    monkeypatch.setattr(engine_module, "tune", lambda _model, rows: gpu_full())
    engine = Engine(model, tape_slots=500, window_seconds=1.0)
    with structlog.testing.capture_logs() as logs:
        engine.warm_up()
    assert [entry["event"] for entry in logs] == ["engine.not_tuned"]


def test_warm_up_fails_where_a_window_does_not_fit(model: Model) -> None:
    """Better no worker than one that gives up every long clip."""
    with pytest.raises(OutOfMemory, match="EMO_WINDOW_SECONDS"):
        Engine(small_device(model, 50), window_seconds=1.0).warm_up()


def test_the_front_end_runs_a_bounded_number_of_frames_at_a_time(model: Model) -> None:
    """On a tape of 40,000 slots too: its first layer has 64 wide rows for each of them."""
    rows: list[int] = []

    class Recording(TorchOperations):
        def front_end(self, conv: FrontEndConv, x: Tensor) -> Tensor:
            """As ever, and noted."""
            out = super().front_end(conv, x)
            rows.append(len(out))
            return out

    with torch.inference_mode():
        frames = model.network.frames(torch.zeros(320 * 40_000 + 80), 40_000, Recording())
    assert frames.shape == (40_000, 32)
    assert max(rows) <= 64 * FRONT_END_FRAMES_CPU + 15
