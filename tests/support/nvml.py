"""A stand-in for NVIDIA's management library, compiled here; readings come from a file."""

import atexit
import ctypes
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pynvml
import pytest

UUID, NEIGHBOUR = (f"GPU-00000000-0000-0000-0000-{number:012}" for number in (1, 2))
# An A10 as it is under load.
BUSY = {
    "utilization": 93,
    "memory_used": 6_000_000_000,
    "milliwatts": 141_500,
    "limit_milliwatts": 150_000,
    "mhz": 1_500,
    "most_mhz": 1_695,
    "celsius": 64,
    "reasons": 0x4,
    "pid": 4242,
}
# One whose memory is the CPU's: its driver tells of none.
BUSY_GB10 = {name: value for name, value in BUSY.items() if name != "memory_used"}


@cache
def library() -> Path:
    """A directory that holds it as `libnvidia-ml.so.1`."""
    made = Path(mkdtemp(prefix="nvml-"))
    atexit.register(shutil.rmtree, made)
    source = Path(__file__).with_name("nvml_stub.c")
    command = ["gcc", "-shared", "-fPIC", "-Wall", "-Wno-unused-parameter", "-O1"]
    subprocess.run([*command, "-o", made / "libnvidia-ml.so.1", source], check=True)
    return made


def say(path: Path, **readings: float) -> Path:
    """Write what the card reads from now on."""
    path.write_text("".join(f"{name} {value}\n" for name, value in readings.items()))
    return path


def load(patch: pytest.MonkeyPatch, path: Path) -> None:
    """Have `pynvml` call the stand-in, in this process."""
    patch.setenv("NVML_STUB", str(path))
    patch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(library() / "libnvidia-ml.so.1")))
    patch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
