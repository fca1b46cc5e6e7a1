"""The ladder of graphs and the engine around it, with a stub in CUDA's place."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch

from tests.kernels.test_graphs import SHORT
from tests.support.cuda_stub import CudaStub, cuda_stub, out_of_memory
from tests.unit.engine.test_parity import assert_parity, parity_segments
from tests.unit.model.parity import CHECKPOINTS, loaded
from worker.engine import graphs
from worker.engine.engine import Engine, Started
from worker.engine.graphs import GraphLadder
from worker.engine.ladder import rungs
from worker.errors import DeviceLost
from worker.model.model import Model
from worker.model.tape_operations import GpuNetwork

TAPE_SLOTS = 300


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaStub]:
    """The device."""
    with cuda_stub(monkeypatch) as stub:
        yield stub


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A parity checkpoint in float32."""
    return loaded("tiny", tmp_path)


def engine_of(model: Model, tape_slots: int = TAPE_SLOTS) -> Engine:
    """An engine that takes the stub for a GPU; windows of 1 s, so that tapes may be short."""
    engine = Engine(model, tape_slots=tape_slots, window_seconds=1.0)
    engine._cuda = engine._graphs = engine._faults.cuda = True
    return engine


def warm(engine: Engine) -> list[str]:
    """Warm up; returns what was logged."""
    with structlog.testing.capture_logs() as logs:
        engine.warm_up()
    return [str(entry["event"]) for entry in logs if entry["event"] != "model.tuned"]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_every_rung_is_the_reference(checkpoint: str, stub: CudaStub, tmp_path: Path) -> None:
    """Captured longest first; short tapes take a short rung, and a mix of all is exact."""
    engine = engine_of(loaded(checkpoint, tmp_path))
    assert warm(engine) == ["engine.captured"]
    assert stub.captured == rungs(TAPE_SLOTS)[::-1] == [300, 288, 128]
    engine.slots_used = engine.slots_run = 0
    for names in ([SHORT[0]], [SHORT[1]] * 7 + SHORT, SHORT[::-1] * 5):
        assert_parity(engine, checkpoint, names, engine.run(parity_segments(names)))
    assert engine.slots_run == 128 + 288 + 288
    assert engine.device_seconds > 0
    assert 0 < engine.slots_used < engine.slots_run


@pytest.mark.usefixtures("stub")
def test_one_thread_is_left_to_the_cpu(model: Model) -> None:
    """A tape that is copied by all cores is not there sooner, and takes each of them as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        warm(engine_of(model))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_two_tapes_are_on_their_way_and_not_three(stub: CudaStub, model: Model) -> None:
    """Each has memory of its own until it is collected; a third has none."""
    engine = engine_of(model)
    warm(engine)
    first, second, third = (engine.start(parity_segments([name])) for name in [*SHORT, SHORT[0]])
    assert isinstance(third, Started)
    assert "2 tapes" in str(third.tape)
    assert_parity(engine, "tiny", [SHORT[0]], engine.finish(first))
    assert_parity(engine, "tiny", [SHORT[1]], engine.finish(second))


def test_a_tape_that_does_not_get_away_leaves_its_place(stub: CudaStub, model: Model) -> None:
    """Out of memory for the frames of a clip: both places are free again, and nothing is lost."""
    engine = engine_of(model)
    warm(engine)
    failures = iter([out_of_memory])

    def fail_once() -> None:
        for failure in failures:
            failure()

    stub.fail_copy = fail_once
    outputs = engine.run(parity_segments(SHORT))
    assert_parity(engine, "tiny", SHORT, outputs)
    ladder = engine._tapes
    assert isinstance(ladder, GraphLadder)
    assert len(ladder._free) == 2


def test_a_ladder_that_does_not_fit_is_shortened(stub: CudaStub, model: Model) -> None:
    """Halved until it fits, for good, and loudly."""

    def fail(slots: int) -> None:
        if slots > 150:
            out_of_memory()

    stub.fail_capture = fail
    engine = engine_of(model)
    assert warm(engine) == ["engine.tape_halved", "engine.captured"]
    assert engine.tape_slots == 150
    assert stub.captured == [150, 128]


def test_without_graphs_it_runs_on_and_says_so(stub: CudaStub, model: Model) -> None:
    """Whatever else a capture fails of; even where the allocator is left in the middle of it."""

    def fail(slots: int) -> None:
        stub.capture_broke_off = True
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    stub.fail_capture = fail
    engine = engine_of(model)
    assert warm(engine) == ["engine.failed", "engine.no_graphs"]
    assert_parity(engine, "tiny", SHORT, engine.run(parity_segments(SHORT)))


def test_with_a_shorter_tape_the_front_end_takes_less_too(
    stub: CudaStub, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes at a time is no tape's own: on a full GPU it would keep every ladder out."""
    gpu = GpuNetwork(model)
    monkeypatch.setattr(graphs, "prepared", lambda _: gpu)
    needed: list[int] = []

    def fail(slots: int) -> None:
        needed.append(gpu.ways.front_end_frames)
        if needed[-1] > 256:
            out_of_memory()

    stub.fail_capture = fail
    engine = engine_of(model, tape_slots=600)
    assert warm(engine) == ["engine.tape_halved", "engine.tape_halved", "engine.captured"]
    assert needed[:3] == [1024, 512, 256]


def test_an_old_gpu_runs_without_graphs(stub: CudaStub, model: Model) -> None:
    """Before compute capability 8.0 the kernels would crawl; it is said, and clips still come."""
    stub.capability = (7, 5)
    engine = engine_of(model)
    with structlog.testing.capture_logs() as logs:
        engine.warm_up()
    assert "compute capability 7.5" in next(
        entry["error"] for entry in logs if entry["event"] == "engine.no_graphs"
    )
    assert_parity(engine, "tiny", SHORT, engine.run(parity_segments(SHORT)))


def test_without_triton_it_runs_on_and_says_so(
    stub: CudaStub, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes with torch's builds for CUDA; a wrong mixture of wheels must not stop a worker."""
    monkeypatch.setitem(sys.modules, "worker.engine.graphs", None)
    engine = engine_of(model)
    assert warm(engine) == ["engine.failed", "engine.no_graphs"]
    assert_parity(engine, "tiny", SHORT, engine.run(parity_segments(SHORT)))


def test_no_memory_for_the_shortest_ladder_is_no_end(stub: CudaStub, model: Model) -> None:
    """Down to one window; then tapes run without graphs."""
    stub.fail_capture = lambda slots: out_of_memory()
    engine = engine_of(model)
    events = warm(engine)
    assert events[-1] == "engine.no_graphs"
    assert set(events[:-1]) == {"engine.tape_halved"}
    assert_parity(engine, "tiny", SHORT, engine.run(parity_segments(SHORT)))


def test_a_lost_device_is_no_fault_of_the_clips(stub: CudaStub, model: Model) -> None:
    """Wherever the error comes up: their jobs are to be given back, not failed."""
    engine = engine_of(model)
    warm(engine)
    stub.lost = True
    stub.fail_copy = out_of_memory
    with pytest.raises(DeviceLost, match="illegal memory access"):
        engine.run(parity_segments(SHORT))
