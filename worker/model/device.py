"""Which device and number format a model runs in."""

from itertools import chain
from pathlib import Path

import torch

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
CPU_INFO = Path("/proc/cpuinfo")
# Without one of these, a CPU computes bfloat16 in software, slower than float32.
BFLOAT16_CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
BFLOAT16_CAPABILITY = (8, 0)  # Ampere; before it, a GPU has float16 alone
# Of the kernels: before it, Triton multiplies without the tensor cores, and runs out of registers.
LEAST_CAPABILITY = (8, 0)


class DeviceError(ValueError):
    """A device or dtype that is not there; the message names the setting."""


def resolve_device(name: str) -> torch.device:
    """The device of `EMO_DEVICE`: `auto`, `cpu`, `cuda` or `cuda:N`. Raises DeviceError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind != "cuda" or (index and not index.isdecimal()) or name.endswith(":"):
        raise DeviceError(f"EMO_DEVICE={name}: must be auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        build = "" if torch.version.cuda else " (this torch is built for the CPU only)"
        raise DeviceError(
            f"EMO_DEVICE={name}: no CUDA device is usable here{build}; use EMO_DEVICE=cpu"
        )
    if int(index or 0) >= count:
        raise DeviceError(f"EMO_DEVICE={name}: there are {count} devices, cuda:0 to :{count - 1}")
    return torch.device("cuda", int(index or 0))


def gpu_uuid(device: torch.device) -> str:
    """`GPU-…`, as NVIDIA's driver names it."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def half_dtypes(device: torch.device) -> list[torch.dtype]:
    """The 16-bit formats that the device computes in at full speed, the more precise first."""
    if device.type == "cuda":
        wide = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
        return [torch.float16, torch.bfloat16] if wide else [torch.float16]
    return [torch.bfloat16] if BFLOAT16_CPU_FLAGS & cpu_flags(CPU_INFO) else []


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of `EMO_DTYPE`; `auto` is the first of `half_dtypes`, or float32."""
    if name == "auto":
        return [*half_dtypes(device), torch.float32][0]
    if name not in DTYPES:
        raise DeviceError(f"EMO_DTYPE={name}: must be auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def wider_dtype(device: torch.device) -> torch.dtype:
    """What to compute in where float16 is too narrow for a model: bfloat16, or float32."""
    return torch.bfloat16 if torch.bfloat16 in half_dtypes(device) else torch.float32


def cpu_flags(cpu_info: Path) -> frozenset[str]:
    """What the kernel says this CPU can do; nothing where it does not say."""
    try:
        lines = cpu_info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    flags = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return frozenset(chain.from_iterable(flags))
