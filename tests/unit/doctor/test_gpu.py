"""What the doctor says of the GPU that a worker would run on."""

from typing import Any

import pytest

from tests.support import nvml
from tests.support.findings import found, one
from tests.unit.doctor.conftest import Card
from tests.unit.doctor.test_device import GPU, IMPORTED, checks
from worker.doctor.findings import State

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
