"""What torch is found to say of each CUDA device, in the process that the doctor asks."""

import pytest
import torch

from worker.doctor.torch_report import ask_torch
from worker.model.device import LEAST_CAPABILITY, gpu_uuid
from worker.telemetry.gpu import opened

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available(),
        reason="NO CUDA DEVICE: nothing of the GPU path is tested on this machine",
    ),
]


@pytest.mark.parametrize("index", range(max(1, torch.cuda.device_count())))
def test_each_gpu_computes_and_runs_a_kernel(index: int) -> None:
    """Also one that is not the first."""
    if torch.cuda.get_device_capability(index) < LEAST_CAPABILITY:
        pytest.skip("NO AMPERE GPU: kernels are not made for it")
    said = ask_torch(f"cuda:{index}", "auto")
    assert said.fault == ""
    assert said.of("computed") == {"total": 1000.0}
    assert said.steps["kernels"] == {}


def test_the_driver_knows_each_gpu_by_its_uuid() -> None:
    """So the one that is used is found among its readings."""
    names = [gpu_uuid(torch.device("cuda", index)) for index in range(torch.cuda.device_count())]
    with opened() as gpus:
        assert set(names) <= set(gpus.uuids)
