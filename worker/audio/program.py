"""Which ffmpeg decodes what may have killed a worker, and what it is told to do."""

import functools
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import ffmpeg
import imageio_ffmpeg
import structlog

from storage.errors import Internal
from worker.audio.formats import (
    ALIKE,
    DECODERS,
    FORMATS,
    MIXED_ALIKE,
    command_line_filters,
    pick_options,
    resample_options,
)
from worker.audio.limits import AudioLimits
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


def command_line(
    fd: int,
    section: tuple[int, int] | None,
    track: int,
    limits: AudioLimits,
    lanes: Sequence[int | None],
    *,
    alike: bool = False,
) -> list[str]:
    """The command line that decodes one track to raw float32 on its stdout.

    `alike`: what is mixed, is in equal parts.
    """
    url = f"/proc/self/fd/{fd}"  # seekable; through a pipe, an m4a file gives nothing and says OK
    protocols = "file"
    if section is not None:
        url = "subfile,,start,{},end,{},,:{}".format(*section, url)
        protocols = "subfile,file"
    source = ffmpeg.input(
        url,
        protocol_whitelist=protocols,
        format_whitelist=FORMATS,
        codec_whitelist=DECODERS,
        threads=1,
        guess_layout_max=0,  # what the file does not say, it would say in its place
    )
    target = ffmpeg.output(
        _side_by_side(source[f"a:{track}"], lanes, alike=alike),
        "pipe:1",
        format="f32le",
        acodec="pcm_f32le",
        t=limits.max_audio_seconds + 1,  # enough to see that it is too long
        vn=None,
        sn=None,
        dn=None,
    ).global_args("-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+verbose")
    line: list[str] = target.compile(cmd=find_ffmpeg())
    return line


def _side_by_side(source: Any, lanes: Sequence[int | None], *, alike: bool) -> Any:
    """The lanes of an audio stream, interleaved: each as if its channel were all there is."""
    if not lanes:
        return source.filter("aresample", SAMPLE_RATE_HZ, osf="flt")
    source = source.filter("asidedata", **MIXED_ALIKE)
    source = source.filter("asetpts", "PTS-STARTPTS")  # what begins late has no hole before it
    split = [source]
    if len(lanes) > 1:
        node = source.filter_multi_output("asplit", len(lanes))
        split = [node.stream(number) for number in range(len(lanes))]
    ready = [_lane(part, channel, alike) for part, channel in zip(split, lanes, strict=True)]
    return ready[0] if len(ready) == 1 else ffmpeg.filter(ready, "amerge", inputs=len(ready))


def _lane(part: Any, channel: int | None, alike: bool) -> Any:
    """A channel of an audio stream, or all of them mixed."""
    if channel is not None:
        part = part.filter("channelmap", **pick_options(channel))
    for name, options in ALIKE if channel is None and alike else ():
        part = part.filter(name, **options)
    return part.filter("aresample", **resample_options(SAMPLE_RATE_HZ))
