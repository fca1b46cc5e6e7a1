"""torch, what it was built for, the driver, and the GPU that a worker would run on."""

import os
import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

from worker.doctor.compiler import compiler
from worker.doctor.findings import Category, Check, Line, fail, ok, skipped, warn
from worker.doctor.torch_report import IMPORT_SECONDS, TorchReport, ask_torch
from worker.settings import WorkerSettings
from worker.telemetry.gpu import GpuReading, NoDriver, NoGpu, opened

OLDEST_TORCH, FIRST_TOO_NEW_TORCH = (2, 7), (2, 14)
TORCH = ">=2.7,<2.14"
# The first driver that runs programs of each CUDA, and PyTorch's index of wheels for it. Source:
# NVIDIA, CUDA Compatibility, "minor version compatibility"; pytorch.org, "previous versions".
_FIRST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
_WHEELS = {11: "cu118", 12: "cu126", 13: "cu130"}
_INDEX = "https://download.pytorch.org/whl"
# The weights, the ladder of graphs and two tapes, in float16; what is free must hold them.
_GPU_BYTES = 3e9
_GB = 1e9
# What torch says where the driver is new enough and no GPU can be used nonetheless.
_CUDA_ERRORS = {
    "Error 802": "on a board with NVSwitch: start nvidia-fabricmanager, of the driver's version",
    "Error 803": "libcuda and the kernel's module are of different versions: reboot, or look for "
    "a `compat` directory in LD_LIBRARY_PATH",
    "Error 804": "take CUDA's `compat` directory out of LD_LIBRARY_PATH: this GPU cannot use it",
    "Error 999": "`modprobe nvidia_uvm`; after a suspend: reboot",
    "No CUDA GPUs are available": "look at CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES",
}
_SEE = "doctor.md#driver"


class Gpus:
    """What NVML says, asked once; `why` there is none, and whether there is a driver at all."""

    def __init__(self) -> None:
        self.readings: list[GpuReading] = []
        self.cuda: tuple[int, int] | None = None
        self.why, self.driver = "", True
        try:
            with opened() as gpus:
                self.readings, self.cuda = gpus.all(), gpus.cuda
        except NoGpu as error:
            self.why, self.driver = str(error), not isinstance(error, NoDriver)


class Torch:
    """The checks of torch and its device. Each answer is asked for once, by whoever is first."""

    def __init__(
        self,
        settings: WorkerSettings,
        ask: Callable[[str, str], TorchReport] | None = None,
    ) -> None:
        self._settings = settings
        asking = ask or partial(ask_torch, resample=settings.resample)
        self._report = cache(lambda: asking(settings.device, settings.dtype))
        self._gpus = cache(Gpus)
        # Where a GPU is demanded, a worker does not start without; else it runs on the CPU.
        self._complain = fail if settings.device.startswith("cuda") else warn

    def category(self) -> Category:
        """All of them."""
        return Category(
            "torch",
            (
                Check("import", self._imports, limit_seconds=IMPORT_SECONDS + 10),
                Check("driver", self._driver, needs="import"),
                Check("device", self._device, needs="driver"),
                Check("GPU", self._gpu, needs="device"),
                Check("resampling", self._resampling, needs="device"),
                Check("allocators", _allocators),
                Check("compiler", lambda: compiler(wanted=self._wants_gpu()), limit_seconds=60),
            ),
        )

    def _wants_gpu(self) -> bool:
        device = self._settings.device
        return device.startswith("cuda") or (device == "auto" and bool(self._gpus().readings))

    def _imports(self) -> Iterable[Line]:
        report = self._report()
        found = report.of("imported")
        if not found:
            yield fail(
                f"torch cannot be imported: {report.fault or 'it said nothing'}",
                f"install it anew: `pip install --force-reinstall 'torch{TORCH}'`",
                "doctor.md#torch-does-not-import",
            )
            return
        version = str(found["version"])
        number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
        built = f"CUDA {found['cuda']}" if found["cuda"] else "CPUs"
        text = f"torch {version}, built for {'ROCm' if found['hip'] else built}"
        if OLDEST_TORCH <= number < FIRST_TOO_NEW_TORCH:
            yield ok(text)
        else:
            yield warn(
                f"{text}: tested is torch {TORCH}",
                f"`pip install 'torch{TORCH}'`",
                "doctor.md#torch-does-not-import",
            )

    def _driver(self) -> Iterable[Line]:
        if self._settings.device == "cpu":
            yield skipped("EMO_DEVICE=cpu: no GPU is used")
            return
        gpus, found = self._gpus(), self._report().of("imported")
        if not gpus.readings:
            if gpus.driver or self._settings.device != "auto":
                yield self._complain(
                    gpus.why, "or set EMO_DEVICE=cpu", "gpu.md#when-it-does-not-start"
                )
            else:
                yield ok("no NVIDIA driver here: EMO_DEVICE=auto is the CPU")
            return
        driver = gpus.readings[0].driver
        serves = f"serves CUDA {gpus.cuda[0]}.{gpus.cuda[1]}" if gpus.cuda else "is there"
        if not found["cuda"]:
            yield self._complain(
                f"this torch is not built for CUDA, and driver {driver} {serves}: its "
                f"{gpus.readings[0].name} is not used",
                _install(gpus.cuda[0] if gpus.cuda else 13),
                _SEE,
            )
            return
        built = int(str(found["cuda"]).partition(".")[0])
        if gpus.cuda and built > gpus.cuda[0]:
            yield self._complain(
                f"the driver is too old for this torch: torch is built for CUDA {found['cuda']}, "
                f"and driver {driver} {serves} at most",
                f"update the driver to {_FIRST_DRIVER.get(built, 'one for that CUDA')} or newer; "
                f"or take a torch for CUDA {gpus.cuda[0]}: {_install(gpus.cuda[0])}",
                _SEE,
            )
        else:
            yield ok(f"driver {driver} {serves}, and torch is built for {found['cuda']}")

    def _device(self) -> Iterable[Line]:
        settings, report = self._settings, self._report()
        found, computed = report.of("device"), report.of("computed")
        asked = f"EMO_DEVICE={settings.device}"
        if error := found.get("error"):
            why = _why(found.get("cuda_error", ""))
            yield fail(str(error), why or "look at EMO_DEVICE and EMO_DTYPE", _SEE)
        elif not found or (found.get("capability") and not computed):
            step = "choosing a device" if not found else f"computing on {found['name']}"
            yield fail(f"{step} failed: {report.fault}", "see `nvidia-smi` and `dmesg`", _SEE)
        elif error := computed.get("error"):
            yield fail(
                f"{found['name']} does not compute: {error}",
                f"this torch has kernels for {', '.join(found['kernels_for'])}: take one that has "
                f"some for compute capability {_dotted(found['capability'])}",
                _SEE,
            )
        elif found["name"] == "cpu" and self._wants_gpu() and report.of("imported")["cuda"]:
            yield warn(
                f"there is a GPU, and torch does not use it: {found.get('cuda_error') or '?'}",
                _why(found.get("cuda_error", "")) or "see `nvidia-smi` and `dmesg`",
                _SEE,
            )
        else:
            yield ok(f"{asked} is {found['name']}, computing in {found['dtype']}")

    def _gpu(self) -> Iterable[Line]:
        """Whether it has what tapes of full speed need: capability, kernels and memory."""
        report = self._report()
        found = report.of("device")
        if "capability" not in found:
            yield skipped("workers run on the CPU")
            return
        has, needs = found["capability"], found["least_capability"]
        if not _takes_kernels(found):
            yield warn(
                f"compute capability {_dotted(has)}: tapes run operation by operation, far slower",
                f"graphs and kernels need {_dotted(needs)}, an Ampere GPU",
                "doctor.md#gpu",
            )
        elif error := _kernel_error(report):
            yield warn(
                f"our kernels do not run, so tapes are far slower: {error}",
                "see `compiler` below; Triton comes with torch's builds for CUDA",
                "doctor.md#compiler",
            )
        else:
            yield ok(f"compute capability {_dotted(has)}, and a kernel of ours ran")
        readings = self._gpus().readings
        # A part of one (MIG) is none that the driver lists.
        for each in [one for one in readings if one.uuid == found.get("uuid")] or readings:
            used, total = each.memory_used_bytes, each.memory_total_bytes
            if used is None or total is None or total - used >= _GPU_BYTES:
                continue
            pids = ", ".join(str(program.pid) for program in each.programs)
            yield warn(
                f"GPU {each.index} has {(total - used) / _GB:.1f} GB free of "
                f"{total / _GB:.1f}; programs on it: {pids or 'none told'}",
                "end other programs, or set EMO_TAPE_SLOTS lower",
                "doctor.md#out-of-memory",
            )

    def _resampling(self) -> Iterable[Line]:
        """Who brings audio to 16 kHz, and whether torchaudio is there for it."""
        setting, report = self._settings.resample, self._report()
        found, device = report.of("resampling"), report.of("device")
        asked = f"EMO_RESAMPLE={setting}"
        if setting == "ffmpeg" or (setting == "auto" and "capability" not in device):
            on_cpu = "" if setting == "ffmpeg" else " on the CPU"
            yield ok(f"{asked}{on_cpu}: decode processes resample")
        elif "version" in found:
            yield ok(f"{asked}: torchaudio {found['version']} resamples on {device['name']}")
        elif _takes_kernels(device) and "kernels" not in report.steps:
            yield skipped(f"{asked}: torchaudio was not tried, since torch ended before: see GPU")
        else:
            why = found.get("error") or report.fault or "it said nothing"
            built = report.of("imported")
            complain = fail if setting == "device" else warn
            yield complain(
                f"{asked}: torchaudio cannot be imported: {why}"
                + ("" if setting == "device" else "; decode processes resample, on the CPU"),
                _INSTALL if built.get("cuda") or built.get("hip") else _NO_INSTALL,
                "gpu.md#torchaudio",
            )


def _takes_kernels(device: dict[str, Any]) -> bool:
    """Whether torch, asked about this device, goes on to run a kernel of ours."""
    return "capability" in device and bool(device["capability"] >= device["least_capability"])


def _kernel_error(report: TorchReport) -> str:
    """Why a kernel of ours did not run; "" where it did, whatever came of torch later."""
    if "kernels" in report.steps:
        return str(report.of("kernels").get("error", ""))
    return report.fault or "it said nothing"


_INSTALL = "`pip install '.[gpu]'`, or set EMO_RESAMPLE=ffmpeg"
_NO_INSTALL = (
    "set EMO_RESAMPLE=ffmpeg; wheels of torchaudio do not import beside a torch without CUDA, "
    "until their libraries are gone"
)
# Each makes a worker slow, or grow, without a word. By variable: what is wrong with it.
_SLOW = {
    "CUDA_LAUNCH_BLOCKING": "each kernel is waited for",
    "PYTORCH_NO_CUDA_MEMORY_CACHING": "the driver allocates each tensor, and no graph is made",
    "TRITON_INTERPRET": "our kernels are interpreted",
}


def _allocators() -> Iterable[Line]:
    """Variables that have memory handled in another way than was measured."""
    clean = True
    for name, effect in _SLOW.items():
        if os.environ.get(name, "0") not in ("", "0"):
            clean = False
            yield warn(f"{name}={os.environ[name]}: {effect}", "unset it", "doctor.md#allocators")
    old, new = (os.environ.get(f"PYTORCH_{kind}ALLOC_CONF") for kind in ("CUDA_", ""))
    if old and new and old != new:
        clean = False
        yield warn(
            "PYTORCH_ALLOC_CONF and PYTORCH_CUDA_ALLOC_CONF say different things",
            "unset the latter, which is its old name",
            "doctor.md#allocators",
        )
    preloaded = os.environ.get("LD_PRELOAD", "")
    if named := re.search(r"jemalloc|tcmalloc|mimalloc", preloaded):
        clean = False
        yield warn(
            f"LD_PRELOAD brings {named[0]}: workers cannot have it give memory back",
            "unset it, or watch that they do not grow",
            "doctor.md#allocators",
        )
    if clean:
        chosen = new or old
        yield ok(f"as they were told: {chosen}" if chosen else "no variable changes them")


def _install(cuda: int) -> str:
    wheels = _WHEELS.get(cuda, _WHEELS[max(_WHEELS)])
    return f"`pip install --force-reinstall 'torch{TORCH}' --index-url {_INDEX}/{wheels}`"


def _why(cuda_error: str) -> str:
    """What to do about an error of CUDA's."""
    return next((todo for words, todo in _CUDA_ERRORS.items() if words in cuda_error), cuda_error)


def _dotted(capability: list[int]) -> str:
    return ".".join(map(str, capability))
