"""What the C library does with freed memory, in a process of its own: it is for all of one."""

import subprocess
import sys

import pytest

from tests.support.worker_process import ROOT

PROGRAM = """
import resource, sys, threading
from worker.telemetry.trimmer import Trimmer

how, taken, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if how == "with":
    Trimmer()
def turn():
    [bytearray(taken) for _ in range(count)]
def faults():
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
def run():
    turn()
    before = faults()
    for _ in range(50):
        turn()
    print(faults() - before)
thread = threading.Thread(target=run)  # as stages and parts of a tape do
thread.start()
thread.join()
"""


def faults(how: str, taken: int, count: int) -> int:
    """Pages that came anew while a thread took and freed so many blocks of bytes fifty times."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, how, str(taken), str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout)


# The samples of clips; what half a tape of 2,048 slots has between the products of a block.
@pytest.mark.parametrize(("taken", "count"), [(500_000, 8), (16 * 1024**2, 1)])
def test_what_is_freed_is_kept_for_what_comes_next(taken: int, count: int) -> None:
    """Of all that is taken in fifty turns, hardly a page comes anew."""
    assert faults("with", taken, count) < 5_000


def test_the_c_library_by_itself_keeps_little_of_a_clip() -> None:
    """Or else the others would show nothing."""
    assert faults("without", 500_000, 8) > 20_000
