"""Loading a checkpoint of full size, in a process of its own, as its memory shows it."""

import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.model.directories import write_large

# Each time in a fork of a process that has imported torch, and nothing more: that takes longest.
LOAD = """
import os
import sys
from pathlib import Path
import torch
from worker.model.device import DTYPES
from worker.model.weights import load
for line in sys.stdin:
    directory, dtype = line.split("\\t")
    if child := os.fork():
        os.waitpid(child, 0)
        print("ended", flush=True)
        continue
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    model = load(Path(directory), device=torch.device("cpu"), dtype=DTYPES[dtype.strip()])
    print("loaded", flush=True)
    sys.stdin.readline()
    os._exit(0)
"""
LARGE_PARAMETERS = 163e6


def anonymous_bytes(pid: int) -> int:
    """The memory of a process that is not backed by a file."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def peak_while_loading(process: subprocess.Popen[bytes], directory: Path, dtype: str) -> int:
    """How far the anonymous memory of a process rises at most while it loads the model."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{directory}\t{dtype}\n".encode())
    process.stdin.flush()
    pid = int(process.stdout.readline())
    before = peak = anonymous_bytes(pid)
    process.stdin.write(b"\n")
    process.stdin.flush()
    line = b""
    while line != b"loaded\n":
        if select.select([process.stdout], [], [], 0.001)[0]:
            line = process.stdout.readline()  # the log, too
            assert line, "the process ended before the model was loaded"
        peak = max(peak, anonymous_bytes(pid))
    process.stdin.write(b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ended\n"  # else it could read what the next is told
    return peak - before


@pytest.fixture(scope="module")
def loader() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose forks load."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", LOAD], stdin=pipe, stdout=pipe) as process:
        yield process


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with optimiser state, as it is trained."""
    return write_large(tmp_path_factory.mktemp("large"))


@pytest.mark.parametrize(("dtype", "item_bytes"), [("bfloat16", 2), ("float32", 4)])
def test_loading_takes_little_more_memory_than_the_weights(
    loader: subprocess.Popen[bytes], large: Path, dtype: str, item_bytes: int
) -> None:
    """At the first start, and from the copy at the second."""
    (large / "model.pt.safetensors").unlink(missing_ok=True)
    assert (large / "model.pt").stat().st_size > 1.9e9
    for _start in ("from model.pt", "from the copy"):
        peak = peak_while_loading(loader, large, dtype)
        assert 0.9 * item_bytes * LARGE_PARAMETERS < peak < 1.3 * item_bytes * LARGE_PARAMETERS
        assert (large / "model.pt.safetensors").exists()
