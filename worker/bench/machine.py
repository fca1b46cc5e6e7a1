"""What a measurement was made on, and whether it had the machine to itself."""

import contextlib
import os
import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

CPU_INFO = Path("/proc/cpuinfo")

# From the widest arithmetic down; a machine is named by the first that it has.
_VECTOR_FLAGS = {
    "amx_bf16": "amx",
    "avx512_bf16": "avx512-bf16",
    "avx512f": "avx512",
    "avx2": "avx2",
}
_RELEVANT_FLAGS = (
    *("fma", "f16c", "avx", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
)
_BUSY_OTHERS = 0.05  # of the time that the cores could have worked for us
_BUSY_STEAL = 0.02


@dataclass(frozen=True, slots=True)
class Machine:
    """The record that a result is worthless without; `slug` names its files."""

    slug: str
    device: str
    cpu: str
    cores: int
    flags: tuple[str, ...]
    python: str
    torch: str
    date: str


def describe_machine(gpu: str | None = None, cpu_info: Path = CPU_INFO) -> Machine:
    """This machine, today; `gpu` is the name of the GPU that the network runs on, if it does."""
    fields = _cpu_fields(cpu_info)
    cpu = _brand(fields.get("model name") or platform.machine())
    cores = len(os.sched_getaffinity(0))
    has = set(fields.get("flags", "").split())
    vector = next((name for flag, name in _VECTOR_FLAGS.items() if flag in has), "")
    return Machine(
        slug=_slug(gpu or f"{cpu} {cores} cores {vector}"),
        device=gpu or cpu,
        cpu=cpu,
        cores=cores,
        flags=tuple(flag for flag in _RELEVANT_FLAGS if flag in has),
        python=platform.python_version(),
        torch=version("torch"),
        date=datetime.now(UTC).date().isoformat(),
    )


class LoadWatch:
    """Begins with a measurement, and says afterwards what else the machine had to do."""

    def __init__(self) -> None:
        self._times = psutil.cpu_times()
        self._ours_seconds = _our_cpu_seconds()

    def warnings(self) -> list[str]:
        """A sentence for each reason to doubt the figures; ask while child processes live."""
        before, after = self._times, psutil.cpu_times()
        all_seconds = sum(after) - sum(before)
        idle_seconds = after.idle + after.iowait - before.idle - before.iowait
        steal_seconds = after.steal - before.steal
        ours_seconds = _our_cpu_seconds() - self._ours_seconds
        others_seconds = all_seconds - idle_seconds - steal_seconds - ours_seconds
        return reasons_to_doubt(
            others=others_seconds / max(all_seconds, 1e-9),
            steal=steal_seconds / max(all_seconds, 1e-9),
        )


def reasons_to_doubt(*, others: float, steal: float) -> list[str]:
    """From shares of the CPU time, while it was measured."""
    found = []
    if others > _BUSY_OTHERS:
        found.append(f"other programs took {others:.0%} of the CPU time meanwhile")
    if steal > _BUSY_STEAL:
        found.append(f"the host gave {steal:.0%} of the CPU time to other machines")
    return found


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def children_cpu_seconds(process: psutil.Process) -> float:
    """The same of its children, and theirs: of those, too, that it has waited for."""
    times = process.cpu_times()
    total = float(times.children_user + times.children_system)
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            total += cpu_seconds(child) + children_cpu_seconds(child)
    return total


def _our_cpu_seconds() -> float:
    ours = psutil.Process()
    return cpu_seconds(ours) + children_cpu_seconds(ours)


def _cpu_fields(cpu_info: Path) -> dict[str, str]:
    """What the kernel says of the first core; nothing where it does not say."""
    try:
        first = cpu_info.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _brand(name: str) -> str:
    """`Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz` is `Intel Xeon Platinum 8481C`."""
    plain = re.sub(r"\((?:R|TM)\)|\bCPU\b|\bProcessor\b|@.*", " ", name)
    return " ".join(plain.split())


def _slug(name: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))
