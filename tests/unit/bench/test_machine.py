"""The record of a machine, and the reasons to doubt a measurement."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from worker.bench.machine import children_cpu_seconds, describe_machine, reasons_to_doubt

CORES = len(os.sched_getaffinity(0))


def cpu_info(path: Path, name: str, flags: str) -> Path:
    """A file as the kernel writes it, of two cores."""
    core = f"processor\t: 0\nmodel name\t: {name}\nflags\t\t: {flags}\n"
    path.write_text(f"{core}\n{core}\n")
    return path


@pytest.mark.parametrize(
    ("name", "flags", "cpu", "slug"),
    [
        ("AMD EPYC", "fpu fma avx avx2", "AMD EPYC", f"amd-epyc-{CORES}-cores-avx2"),
        (
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            "avx2 avx512f avx512_bf16 amx_tile amx_bf16",
            "Intel Xeon Platinum 8481C",
            f"intel-xeon-platinum-8481c-{CORES}-cores-amx",
        ),
        ("Old Thing(TM)", "fpu", "Old Thing", f"old-thing-{CORES}-cores"),
    ],
)
def test_a_machine_is_named_by_its_cpu_its_cores_and_its_widest_arithmetic(
    tmp_path: Path, name: str, flags: str, cpu: str, slug: str
) -> None:
    """So that results of two machines never lie in the same file, and say what they are of."""
    machine = describe_machine(cpu_info=cpu_info(tmp_path / "cpuinfo", name, flags))
    assert (machine.cpu, machine.device, machine.slug) == (cpu, cpu, slug)
    assert set(machine.flags) == set(flags.split()) - {"fpu"}


def test_a_machine_with_a_gpu_is_named_by_that(tmp_path: Path) -> None:
    """The network runs there; the CPU is on record all the same."""
    machine = describe_machine("NVIDIA A10", cpu_info(tmp_path / "cpuinfo", "AMD EPYC", "avx2"))
    assert (machine.slug, machine.device, machine.cpu) == ("nvidia-a10", "NVIDIA A10", "AMD EPYC")


def test_a_machine_that_says_nothing_of_its_cpu_still_has_a_name(tmp_path: Path) -> None:
    """Other architectures write other files, or none."""
    machine = describe_machine(cpu_info=tmp_path / "none")
    assert machine.slug.endswith(f"-{CORES}-cores")
    assert machine.flags == ()


@pytest.mark.parametrize(
    ("others", "steal", "said"),
    [
        (0.0, 0.0, []),
        (0.4, 0.0, ["other programs took 40%"]),
        (0.0, 0.1, ["the host gave 10%"]),
        (0.4, 0.1, ["other programs", "the host"]),
    ],
)
def test_a_busy_machine_is_reason_to_doubt(others: float, steal: float, said: list[str]) -> None:
    """Each cause is named, with its figure; a quiet machine gives none."""
    reasons = reasons_to_doubt(others=others, steal=steal)
    assert len(reasons) == len(said)
    for reason, part in zip(reasons, said, strict=True):
        assert part in reason


def test_cpu_time_of_a_child_that_has_ended_is_not_lost() -> None:
    """Given a decode process that is worn and replaced while it is measured, time goes on."""
    us = psutil.Process()
    before_seconds = children_cpu_seconds(us)
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", busy], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive_seconds = children_cpu_seconds(us)
        child.communicate(b"\n")
    assert alive_seconds >= before_seconds + 0.2
    assert children_cpu_seconds(us) >= alive_seconds
