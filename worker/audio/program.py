"""Which ffmpeg decodes what may have killed a worker."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress

import imageio_ffmpeg
import structlog

from storage.errors import Internal
from worker.audio.formats import command_line_filters
from worker.clip import SAMPLE_RATE_HZ

log = structlog.get_logger(__name__)

_CHECK_SECONDS = 20


@functools.cache
def find_ffmpeg() -> str:
    """Path of the first ffmpeg that has our filter: the one that pip installed, or the system's.

    That of pip is as new as the libraries in the decode processes, and gives the same samples; a
    distribution's may be years older. Raises Internal when there is none.
    """
    for binary in _candidates():
        if _has_filter(binary):
            return binary
        log.warning("decode.ffmpeg_unusable", binary=binary, reason="older than 5.1")
    raise Internal("no usable ffmpeg: install ffmpeg 5.1 or newer on the worker's PATH")


def _candidates() -> Iterator[str]:
    with suppress(RuntimeError):  # pip's wheel for this machine may hold none
        yield imageio_ffmpeg.get_ffmpeg_exe()
    if (binary := shutil.which("ffmpeg")) is not None:
        yield binary


def _has_filter(binary: str) -> bool:
    """Whether this build can do our downmix; releases before 5.1 do not know `ochl`."""
    line = [binary, "-v", "error", "-nostdin", "-f", "lavfi", "-i", "anullsrc", "-t", "0.1"]
    line += ["-af", command_line_filters(SAMPLE_RATE_HZ), "-f", "null", "-"]
    check = subprocess.run(line, capture_output=True, timeout=_CHECK_SECONDS, check=False)
    return check.returncode == 0
