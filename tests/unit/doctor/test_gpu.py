"""What the doctor says of the GPU that a worker would run on."""

from typing import Any

import pytest

from tests.support import nvml
from tests.support.findings import found, one
from tests.unit.doctor.conftest import Card
from tests.unit.doctor.test_device import GPU, IMPORTED, checks
from worker.doctor.device import Torch
from worker.doctor.findings import State
from worker.doctor.torch_report import TorchReport
from worker.settings import WorkerSettings

CRASHED = "it was killed by signal 11"
COMPUTED: dict[str, Any] = {"imported": IMPORTED, "device": GPU, "computed": {"total": 1.0}}


@pytest.mark.parametrize(
    ("capability", "kernels", "state", "said"),
    [
        ([9, 0], {}, State.OK, "9.0"),
        ([7, 5], {}, State.WARN, "need 8.0"),
        ([9, 0], {"error": "Failed to find C compiler."}, State.WARN, "Failed to find C compiler"),
    ],
)
@pytest.mark.usefixtures("card")
def test_what_a_gpu_can(
    capability: list[int], kernels: dict[str, object], state: State, said: str
) -> None:
    """Graphs and kernels need an Ampere GPU, and Triton."""
    device = {**GPU, "capability": capability}
    steps = {"imported": IMPORTED, "device": device, "computed": {"total": 1.0}}
    category = checks(**steps, kernels=kernels)
    found_state, text = one(category, "GPU")
    assert (found_state, said in text) == (state, True)


def test_a_gpu_that_others_have_filled(card: Card) -> None:
    """Who is on it is named."""
    card(memory_used=23_000_000_000)
    steps = {"imported": IMPORTED, "device": GPU, "computed": {"total": 1.0}, "kernels": {}}
    *_, (state, text) = found(checks(**steps))["GPU"]
    assert (state, "4242" in text, "EMO_TAPE_SLOTS" in text) == (State.WARN, True, True)


def test_a_gpu_that_does_not_tell_its_memory(card: Card) -> None:
    """It is the CPU's: there is nothing to find fault with."""
    card(cuda=13000, memory_used=None)
    steps = {"imported": IMPORTED, "device": GPU, "computed": {"total": 1.0}, "kernels": {}}
    said = found(checks(**steps))
    assert [state for state, _ in said["driver"] + said["GPU"]] == [State.OK] * 2


@pytest.mark.parametrize(
    ("uuid", "full"), [(nvml.UUID, [0]), (nvml.NEIGHBOUR, []), ("GPU-of-a-part", [0])]
)
def test_a_neighbour_that_others_have_filled(card: Card, uuid: str, full: list[int]) -> None:
    """Nobody asks for its memory; where the driver does not know which is used, for that of all."""
    card(count=2, memory_used=23_000_000_000, other_memory_used=1_000_000_000)
    said = checks(**{**COMPUTED, "device": {**GPU, "uuid": uuid}}, kernels={})
    _, *warned = found(said)["GPU"]
    assert [text.split(" has ")[0] for _, text in warned] == [f"GPU {index}" for index in full]


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(
    ("steps", "gpu", "resampling"),
    [
        ({"kernels": {}}, (State.OK, "a kernel of ours ran"), (State.WARN, CRASHED)),
        ({"kernels": {"error": "no compiler"}}, (State.WARN, "no compiler"), (State.WARN, CRASHED)),
        ({}, (State.WARN, CRASHED), (State.SKIPPED, "not tried")),
    ],
)
def test_a_crash_is_of_the_step_that_was_tried(
    steps: dict[str, Any], gpu: tuple[State, str], resampling: tuple[State, str]
) -> None:
    """Of torchaudio where a kernel was tried before, and of the kernel where it was not."""
    report = TorchReport({**COMPUTED, **steps}, CRASHED)
    category = Torch(WorkerSettings(device="cuda"), lambda *_: report).category()
    for check, (state, words) in (("GPU", gpu), ("resampling", resampling)):
        found_state, text = one(category, check)
        assert (found_state, words in text) == (state, True)
