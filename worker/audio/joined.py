"""Files that hold several, one after the other, which FFmpeg does not read as such."""

import os
from dataclasses import dataclass

from worker.audio.ogg import read_pages
from worker.audio.section import find
from worker.warning import AudioWarning

_AMR = b"#!AMR"  # of both kinds; source: RFC 4867, section 5.1


@dataclass(frozen=True, slots=True)
class Joined:
    """What is to be decoded one by one, and what is to be doubted before it is."""

    sections: tuple[tuple[int, int], ...]  # bytes [start, stop), without a gap
    warnings: tuple[AudioWarning, ...] = ()


def find_joined(fd: int, size: int) -> Joined:
    """The parts of the file of `size` bytes at `fd`; most have one."""
    if (pages := read_pages(fd, size)) is not None:
        doubts = {AudioWarning.TRUNCATED: pages.truncated, AudioWarning.DAMAGED: pages.damaged}
        return Joined(pages.links, tuple(doubt for doubt, holds in doubts.items() if holds))
    starts = [0]
    if os.pread(fd, len(_AMR), 0) == _AMR:
        while (start := find(fd, _AMR, starts[-1] + 1)) >= 0:
            starts.append(start)
    return Joined(tuple(zip(starts, [*starts[1:], size], strict=True)))
