"""Decode in isolation, by FFmpeg's command line: for files that may have killed a worker before.

The program shares nothing with us but the object's descriptor and two pipes, has its memory, CPU
time and descriptors limited, and is killed when it takes too long. Unlike a decode process it may
call the kernel as it likes, for which it is given none of our environment. It costs ten times as
much.
"""

import errno
import functools
import math
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import ffmpeg
import imageio_ffmpeg
import structlog

from storage.errors import DecodeCrashed, Internal, NotAudio, StageTimeout
from storage.objects.blob import Blob, write_all
from worker.audio.formats import DECODERS, FORMATS, resample_options
from worker.audio.limits import AudioLimits, too_long
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.room import Spool
from worker.audio.spool import spool_failed
from worker.audio.waveform import map_waveform
from worker.clip import SAMPLE_RATE_HZ, Waveform
from worker.warning import AudioWarning

log = structlog.get_logger(__name__)

_EXIT_OUT_OF_MEMORY = 256 - errno.ENOMEM  # ffmpeg exits with its negative error, modulo 256
_COMPLAINT_BYTES = 4_096  # of stderr, counted from the end
_CHECK_SECONDS = 20
_READ_BYTES = 1024**2
_MOST_DESCRIPTORS = 32


class _Ended(NamedTuple):
    """How ffmpeg ended: `complaint` is the last line that it had to say."""

    status: int
    num_samples: int
    complaint: str


def decode_isolated(blob: Blob, limits: AudioLimits, spool: Spool | None = None) -> Waveform:
    """Waveform of an object of any supported format; closes the blob.

    As the decode stage gives it, but `truncated` only where ffmpeg itself gave up. It runs alone:
    nobody else needs room in `spool`, which bounds it and reserves nothing. Raises NotAudio
    (for a file without audio track too), AudioTooShort, AudioTooLong, DecodeCrashed, StageTimeout,
    SpoolUnavailable, Internal.
    """
    spool = spool or Spool(limits.spool_dir, limits.spool_bytes)
    with blob:
        output = spool.open()
        try:
            line = _command(find_ffmpeg(), blob.fd, limits)
            try:
                status, num_samples, complaint = _run(line, blob, output, spool, limits)
            except OSError as error:
                raise spool_failed(spool.directory, error) from error
            if status < 0 or status == _EXIT_OUT_OF_MEMORY:
                raise DecodeCrashed(
                    f"ffmpeg died of this file ({_cause(status)}): convert it to WAV, or raise "
                    "EMO_DECODE_MEMORY_BYTES"
                )
            if num_samples == 0:
                raise NotAudio(f"ffmpeg finds no audio in the object ({complaint}): send another")
            if num_samples > limits.max_audio_seconds * SAMPLE_RATE_HZ:
                raise too_long(limits.max_audio_seconds)
            return map_waveform(output, num_samples, (AudioWarning.TRUNCATED,) * (status != 0))
        finally:
            os.close(output)


@functools.cache
def find_ffmpeg() -> str:
    """Path of the first ffmpeg that has our filter: the system's, or the one that pip installed.

    Raises Internal when there is none.
    """
    for binary in (shutil.which("ffmpeg"), imageio_ffmpeg.get_ffmpeg_exe()):
        if binary is not None and _has_filter(binary):
            return binary
        if binary is not None:
            log.warning("decode.ffmpeg_unusable", binary=binary, reason="older than 5.1")
    raise Internal("no usable ffmpeg: install ffmpeg 5.1 or newer on the worker's PATH")


def _has_filter(binary: str) -> bool:
    """Whether this build can do our downmix; releases before 5.1 do not know `ochl`."""
    line = [binary, "-v", "error", "-nostdin", "-f", "lavfi", "-i", "anullsrc", "-t", "0.1"]
    line += ["-af", f"aresample={resample_options(SAMPLE_RATE_HZ)}", "-f", "null", "-"]
    check = subprocess.run(line, capture_output=True, timeout=_CHECK_SECONDS, check=False)
    return check.returncode == 0


def _command(binary: str, fd: int, limits: AudioLimits) -> list[str]:
    """The command line that decodes the file behind `fd` to raw float32 on its stdout."""
    source = ffmpeg.input(
        f"/proc/self/fd/{fd}",  # seekable; through a pipe, an m4a file gives nothing and says OK
        protocol_whitelist="file",
        format_whitelist=FORMATS,
        codec_whitelist=DECODERS,
        threads=1,
    )
    target = ffmpeg.output(
        source["a:0"],
        "pipe:1",
        format="f32le",
        acodec="pcm_f32le",
        af=f"aresample={resample_options(SAMPLE_RATE_HZ)}",
        t=limits.max_audio_seconds + 1,  # enough to see that it is too long
        vn=None,
        sn=None,
        dn=None,
    ).global_args("-nostdin", "-hide_banner", "-v", "error")
    line: list[str] = target.compile(cmd=binary)
    return line


def _run(line: list[str], blob: Blob, output: int, spool: Spool, limits: AudioLimits) -> _Ended:
    """Have it write to `output`, by way of us. Raises StageTimeout, AudioTooLong, OSError.

    Nobody else has that file open: nothing that ffmpeg started can cut it short later.
    """
    started = time.monotonic()
    with subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[blob.fd],
        env={"PATH": os.environ.get("PATH", ""), "AV_LOG_FORCE_NOCOLOR": "1"},
        start_new_session=True,
    ) as process:
        _confine(process.pid, limits)
        assert process.stdout is not None
        assert process.stderr is not None
        samples, complaints = process.stdout.fileno(), process.stderr.fileno()
        poller = select.poll()
        open_pipes = {samples, complaints}
        for pipe in open_pipes:
            poller.register(pipe)
        written_bytes, said = 0, b""
        try:
            while True:
                decoded_seconds = written_bytes / SAMPLE_BYTES / SAMPLE_RATE_HZ
                allowed_seconds = limits.allowed_seconds(decoded_seconds)
                left_seconds = started + allowed_seconds - time.monotonic()
                if left_seconds <= 0:
                    raise subprocess.TimeoutExpired(line, allowed_seconds)
                if not open_pipes:
                    status = process.wait(left_seconds)
                    break
                for pipe, _ in poller.poll(1000 * left_seconds):
                    part = os.read(pipe, _READ_BYTES)
                    if not part:
                        poller.unregister(pipe)
                        open_pipes.remove(pipe)
                    elif pipe == samples:
                        written_bytes += len(part)
                        spool.require_fitting(written_bytes)
                        write_all(output, part)
                    else:
                        said = (said + part)[-_COMPLAINT_BYTES:]
        except subprocess.TimeoutExpired as error:
            process.kill()
            raise StageTimeout(
                f"ffmpeg was stopped after {allowed_seconds:g} s: convert the file to WAV, or "
                "raise EMO_DECODE_TIMEOUT_SECONDS"
            ) from error
        except BaseException:
            process.kill()
            raise
    lines = [text.strip() for text in said.decode(errors="replace").split("\n")]
    return _Ended(status, written_bytes // SAMPLE_BYTES, next(filter(None, lines[::-1]), ""))


def _confine(pid: int, limits: AudioLimits) -> None:
    """Take from it what can be taken from outside; should this worker die, it still ends."""
    cpu_seconds = math.ceil(limits.allowed_seconds(limits.max_audio_seconds))
    for which, value in (
        (resource.RLIMIT_CPU, cpu_seconds),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),  # it writes to pipes alone
        (resource.RLIMIT_NOFILE, _MOST_DESCRIPTORS),
    ):
        with suppress(ProcessLookupError):  # one that has ended needs no limit
            resource.prlimit(pid, which, (value, value))
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _cause(status: int) -> str:
    """An exit status in words."""
    return signal.Signals(-status).name if status < 0 else "out of memory"
