"""What the C library does with freed memory, in a process of its own: it is for all of one."""

import subprocess
import sys

from tests.support.worker_process import ROOT

PROGRAM = """
import ctypes, resource, sys
from worker.telemetry.trimmer import Trimmer

if sys.argv[1] == "with":
    Trimmer()
def turn():
    [bytearray(500_000) for _ in range(8)]
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
turn()
before = faults()
for _ in range(50):
    turn()
print(faults() - before)
"""


def faults(how: str) -> int:
    """Pages that came anew while a process took and freed 4 MB fifty times."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(ran.stdout)


def test_what_is_freed_is_kept_for_what_comes_next() -> None:
    """Without it, nearly every page of every turn comes anew."""
    assert faults("with") < 5_000
    assert faults("without") > 20_000
