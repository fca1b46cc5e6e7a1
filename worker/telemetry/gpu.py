"""What NVIDIA's driver says of the GPUs of this machine, by NVML.

Sensors that a card or its driver does not have read as None. NVML's utilisation is the share of
time in which any kernel ran at all: one thread of one program is enough.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pynvml

_PERCENT, _MILLIWATTS = 100, 1000

# Why a clock is lower than it could be. Without work it always is.
_IDLE = pynvml.nvmlClocksEventReasonGpuIdle
_REASONS = {
    pynvml.nvmlClocksEventReasonSwPowerCap: "power limit",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "heat",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "heat, by the hardware",
    pynvml.nvmlClocksEventReasonApplicationsClocksSetting: "clocks that were set",
    pynvml.nvmlClocksEventReasonSyncBoost: "other GPUs, in step",
    pynvml.nvmlClocksEventReasonDisplayClockSetting: "display",
}
_HARDWARE = pynvml.nvmlClocksEventReasonHwSlowdown  # by heat or power, or by itself

_T = TypeVar("_T")


class NoGpu(RuntimeError):
    """No GPU of NVIDIA's can be asked; says why, and what to do."""


class NoDriver(NoGpu):
    """There is no driver of NVIDIA's at all."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that has a context on a GPU."""

    pid: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment. `utilization` is a share; `held_down_by` what lowers its clock."""

    index: int
    uuid: str
    name: str
    driver: str
    utilization: float | None
    memory_used_bytes: int | None  # of both or of neither
    memory_total_bytes: int | None
    watts: float | None
    limit_watts: float | None
    sm_mhz: int | None
    most_sm_mhz: int | None
    celsius: int | None
    held_down_by: tuple[str, ...]
    programs: tuple[Program, ...]

    @property
    def memory_share(self) -> float | None:
        """Of the memory, what is taken, by whomever; None of a GPU that has the CPU's."""
        if self.memory_used_bytes is None or not self.memory_total_bytes:
            return None
        return self.memory_used_bytes / self.memory_total_bytes


class Gpus:
    """All GPUs of this machine, while NVML is open."""

    def __init__(self, count: int) -> None:
        self._count = count

    @property
    def uuids(self) -> list[str]:
        """`GPU-…`, in the driver's order; one that is lost to the driver is left out."""
        found = [_sensor(partial(_uuid, index)) for index in range(self._count)]
        return [uuid for uuid in found if uuid is not None]

    @property
    def cuda(self) -> tuple[int, int] | None:
        """The newest CUDA that the driver serves, (major, minor); None where it does not tell."""
        version = _sensor(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return None if version is None else (version // 1000, version % 1000 // 10)

    def read(self, uuid: str) -> GpuReading:
        """What it says now. Raises NoGpu where it has gone."""
        try:
            return _read(pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except pynvml.NVMLError as error:
            raise NoGpu(f"{uuid}: NVML says: {error}") from error

    def all(self) -> list[GpuReading]:
        """Of each one that answers. Raises NoGpu where none does."""
        readings = []
        why = NoGpu(f"none of {self._count} GPUs answers the NVIDIA driver: see `dmesg`")
        for uuid in self.uuids:
            try:
                readings.append(self.read(uuid))
            except NoGpu as error:
                why = error
        if not readings:
            raise why
        return readings


@contextmanager
def opened() -> Iterator[Gpus]:
    """NVML, until the end of the block. Raises NoGpu where it cannot be asked, or has no GPU."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        missing = error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
        raise (NoDriver if missing else NoGpu)(_why(error)) from error
    try:
        yield Gpus(_count())
    finally:
        pynvml.nvmlShutdown()


def _count() -> int:
    """Of the driver's GPUs, lost ones among them; at least one."""
    try:
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        raise NoGpu(_why(error)) from error
    if not count:
        raise NoGpu("the NVIDIA driver is here, but shows no GPU: start the container with one")
    return count


def _uuid(index: int) -> str:
    return _text(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)))


def _why(error: Any) -> str:
    hints = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (
            "no NVIDIA driver here: libnvidia-ml.so.1 is not found. In a container it comes with "
            "the NVIDIA Container Toolkit, and `docker run --gpus all`"
        ),
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (
            "the NVIDIA driver is installed but not loaded, as `nvidia-smi` will say too: reboot "
            "this machine, or `modprobe nvidia`"
        ),
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            "the NVIDIA driver was updated while its old module is loaded: reboot this machine"
        ),
        pynvml.NVML_ERROR_NO_PERMISSION: (
            "this user may not ask the NVIDIA driver: look at the rights of /dev/nvidia*"
        ),
    }
    return hints.get(error.value, f"NVML says: {error}")


def _read(handle: Any) -> GpuReading:
    memory = _sensor(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    milliwatts = _sensor(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
    limit = _sensor(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    percent = _sensor(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    programs = _sensor(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle)) or ()
    return GpuReading(
        index=pynvml.nvmlDeviceGetIndex(handle),
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        driver=_text(pynvml.nvmlSystemGetDriverVersion()),
        utilization=None if percent is None else percent / _PERCENT,
        memory_used_bytes=None if memory is None else memory.used,
        memory_total_bytes=None if memory is None else memory.total,
        watts=None if milliwatts is None else milliwatts / _MILLIWATTS,
        limit_watts=None if limit is None else limit / _MILLIWATTS,
        sm_mhz=_sensor(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        most_sm_mhz=_sensor(lambda: pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        celsius=_sensor(
            lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        ),
        held_down_by=_held_down_by(
            _sensor(lambda: pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)) or 0
        ),
        programs=tuple(Program(each.pid, each.usedGpuMemory) for each in programs),
    )


def _held_down_by(reasons: int) -> tuple[str, ...]:
    if reasons & _IDLE:
        return ()
    named = tuple(name for bit, name in _REASONS.items() if reasons & bit)
    return named or ("the hardware",) * bool(reasons & _HARDWARE)


def _sensor(read: Callable[[], _T]) -> _T | None:
    try:
        return read()
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
