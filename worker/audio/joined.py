"""Files that hold several, one after the other, which FFmpeg does not read as such."""

import os
from dataclasses import dataclass

from storage.errors import NotAudio
from worker.audio.ogg import read_pages
from worker.audio.section import find
from worker.warning import AudioWarning

MOST_SECTIONS = 1_000  # a hostile file has millions
_AMR = b"#!AMR"  # of both kinds; source: RFC 4867, section 5.1


@dataclass(frozen=True, slots=True)
class Joined:
    """What is to be decoded one by one, and what is to be doubted before it is."""

    sections: tuple[tuple[int, int], ...]  # bytes [start, stop), without a gap
    warnings: tuple[AudioWarning, ...] = ()


def find_joined(fd: int, size: int) -> Joined:
    """The parts of the file of `size` bytes at `fd`, mostly one. Raises NotAudio for too many."""
    if (pages := read_pages(fd, size, MOST_SECTIONS)) is not None:
        _require_few(len(pages.links))
        doubts = {AudioWarning.TRUNCATED: pages.truncated, AudioWarning.DAMAGED: pages.damaged}
        return Joined(pages.links, tuple(doubt for doubt, holds in doubts.items() if holds))
    starts = [0]
    if os.pread(fd, len(_AMR), 0) == _AMR:
        while (start := find(fd, _AMR, starts[-1] + 1)) >= 0:
            starts.append(start)
            _require_few(len(starts))
    return Joined(tuple(zip(starts, [*starts[1:], size], strict=True)))


def _require_few(sections: int) -> None:
    if sections > MOST_SECTIONS:
        raise NotAudio(f"more than {MOST_SECTIONS} files are joined in it: send them by themselves")
