"""Choosing a device and a dtype."""

from pathlib import Path

import pytest
import torch

from worker.model import device
from worker.model.device import (
    DeviceError,
    cpu_flags,
    resolve_device,
    resolve_dtype,
    wider_dtype,
)

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)

needs_no_cuda = pytest.mark.skipif(
    torch.cuda.is_available(), reason="tests what happens where there is no CUDA device"
)


@needs_no_cuda
def test_auto_is_the_cpu_where_there_is_no_gpu() -> None:
    """The worker starts anywhere."""
    assert resolve_device("auto") == CPU


@needs_no_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_that_is_not_there_is_an_error(name: str) -> None:
    """Never the CPU instead, a hundred times slower."""
    with pytest.raises(DeviceError, match=f"EMO_DEVICE={name}: no CUDA device"):
        resolve_device(name)


def test_cuda_devices_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cuda` is the first; a number beyond the last is an error that gives the range."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == CUDA
    assert resolve_device("cuda") == CUDA
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="cuda:0 to :1"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0"])
def test_a_device_of_no_such_name_is_an_error(name: str) -> None:
    """The message lists what there is."""
    with pytest.raises(DeviceError, match="auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512_bf16 avx2", torch.bfloat16),
        ("fpu amx_bf16", torch.bfloat16),
        ("fpu avx2 avx512f", torch.float32),
    ],
)
def test_auto_on_a_cpu_is_bfloat16_only_where_it_is_in_hardware(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: torch.dtype
) -> None:
    """In software it is several times slower than float32."""
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n", encoding="utf-8")
    monkeypatch.setattr(device, "CPU_INFO", tmp_path / "cpuinfo")
    assert resolve_dtype("auto", CPU) == expected


@pytest.mark.parametrize(
    ("capability", "wider"), [((9, 0), torch.bfloat16), ((7, 5), torch.float32)]
)
def test_auto_on_a_gpu_is_float16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], wider: torch.dtype
) -> None:
    """As fast as bfloat16 and eight times as precise; a model that needs more range gets it."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve_dtype("auto", CUDA) == torch.float16
    assert wider_dtype(CUDA) == wider


def test_a_dtype_can_be_asked_for() -> None:
    """Each by its name; any other is an error that lists them."""
    assert resolve_dtype("float16", CPU) == torch.float16
    assert resolve_dtype("float32", CUDA) == torch.float32
    with pytest.raises(DeviceError, match="EMO_DTYPE=int8: must be auto, float32"):
        resolve_dtype("int8", CPU)


def test_a_system_that_does_not_describe_its_cpu_has_no_flags(tmp_path: Path) -> None:
    """Then float32 is used."""
    assert cpu_flags(tmp_path / "nothing") == frozenset()
