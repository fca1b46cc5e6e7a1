"""Samples in sealed memory: what is written, and what is refused before it is mapped."""

import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.audio.pcm import Memory, PartWriter, seal
from worker.audio.protocol import Misbehaved

PART_BYTES = 100_000


@pytest.mark.parametrize("num_chunks", [0, 3, 25, 26, 500])
def test_samples_keep_their_order_over_parts(num_chunks: int) -> None:
    """Parts are full, the last is the rest, nothing is lost or doubled, and all are sealed."""
    chunks = [bytes([index % 251]) * 4_000 for index in range(num_chunks)]
    parts: list[bytes] = []
    with Memory() as memory:

        def hand_over() -> int:
            parts.append(os.pread(memory.sealed(PART_BYTES), PART_BYTES + 1, 0))
            memory.renew()
            return memory.fd

        pcm = PartWriter(PART_BYTES, memory.fd, hand_over)
        for chunk in chunks:
            pcm.write(memoryview(chunk))
        last = memory.sealed(pcm.finish())
        assert b"".join([*parts, os.pread(last, PART_BYTES + 1, 0)]) == b"".join(chunks)
    assert pcm.num_bytes == 4_000 * num_chunks
    assert len(parts) == max(0, (num_chunks - 1) // 25)


def test_sealed_memory_stays_as_it_is() -> None:
    """Neither its bytes nor its size can be changed, nor the seals be taken off."""
    fd = memory(8)
    with mmap.mmap(fd, 8):  # whoever has that could still write
        with pytest.raises(Misbehaved):
            seal(fd, 8)
        os.pwrite(fd, b"x", 0)
    seal(fd, 8)
    for change in (
        lambda: os.ftruncate(fd, 0),
        lambda: os.ftruncate(fd, 16),
        lambda: os.pwrite(fd, b"x", 0),
        lambda: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL),
    ):
        with pytest.raises(PermissionError):
            change()
    os.close(fd)


@pytest.mark.parametrize("refusals", [1, 3])
def test_a_page_that_the_system_holds_for_a_moment_is_waited_for(
    refusals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no fault of the file: the page is let go, as here out of a pipe, and all is well."""
    fd, (end, pipe), refused = memory(8), os.pipe(), 0
    add = fcntl.fcntl
    assert os.splice(fd, pipe, 8, offset_src=0) == 8  # not copied: the page itself is in the pipe

    def watched(fd: int, command: int, argument: int) -> int:
        nonlocal refused
        try:
            return add(fd, command, argument)
        except OSError:
            refused += 1
            if refused == refusals:
                os.read(end, 8)
            raise

    monkeypatch.setattr(fcntl, "fcntl", watched)
    seal(fd, 8)
    assert refused == refusals
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    for each in (fd, end, pipe):
        os.close(each)


def memory(num_bytes: int) -> int:
    """Memory that can be sealed."""
    fd = os.memfd_create("pcm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(num_bytes))
    return fd


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda path: os.memfd_create("pcm"), id="no sealing"),
        pytest.param(lambda path: memory(4), id="too short"),
        pytest.param(lambda path: memory(12), id="too long"),
        pytest.param(lambda path: os.open(path, os.O_TMPFILE | os.O_RDWR), id="file"),
        pytest.param(lambda path: os.open("/dev/zero", os.O_RDONLY), id="device"),
        pytest.param(lambda path: os.open(path, os.O_RDONLY), id="directory"),
    ],
)
def test_what_could_be_cut_short_is_refused(make: Callable[[Path], int], tmp_path: Path) -> None:
    """Whatever cannot be sealed, or holds not just so many samples, is never mapped."""
    fd = make(tmp_path)
    try:
        with pytest.raises(Misbehaved):
            seal(fd, 8)
    finally:
        os.close(fd)
