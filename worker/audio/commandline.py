"""Decode in isolation, by FFmpeg's command line: for files that may have killed a worker before.

The program shares nothing with us but two descriptors, has its memory and CPU time limited, and
is killed when it takes too long. It costs ten times as much as a decode process.
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

import ffmpeg
import imageio_ffmpeg
import structlog

from storage.errors import DecodeCrashed, Internal, NotAudio, StageTimeout
from storage.objects.blob import Blob
from worker.audio.formats import FORMATS, resample_options
from worker.audio.limits import AudioLimits, too_long
from worker.audio.room import Spool
from worker.audio.spool import SAMPLE_BYTES, spool_failed
from worker.audio.waveform import map_waveform
from worker.clip import SAMPLE_RATE_HZ, Waveform

log = structlog.get_logger(__name__)

_EXIT_OUT_OF_MEMORY = 256 - errno.ENOMEM  # ffmpeg exits with its negative error, modulo 256
_EXIT_DISK_FULL = 256 - errno.ENOSPC
_COMPLAINT_BYTES = 4_096  # of stderr, counted from the end
_CHECK_SECONDS = 20
_PROGRESS_SECONDS = 0.5  # how often the deadline is moved by what was decoded


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
            status, complaint = _run(line, blob, output, limits, spool.limit_bytes)
            if status == -signal.SIGXFSZ:
                spool.require_fitting(spool.limit_bytes + 1)
            if status == _EXIT_DISK_FULL or os.strerror(errno.ENOSPC) in complaint:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise spool_failed(spool.directory, full)
            num_samples = os.fstat(output).st_size // SAMPLE_BYTES
            if status < 0 or status == _EXIT_OUT_OF_MEMORY:
                raise DecodeCrashed(
                    f"ffmpeg died of this file ({_cause(status)}): convert it to WAV, or raise "
                    "EMO_DECODE_MEMORY_BYTES"
                )
            if num_samples == 0:
                raise NotAudio(f"ffmpeg finds no audio in the object ({complaint}): send another")
            if num_samples > limits.max_audio_seconds * SAMPLE_RATE_HZ:
                raise too_long(limits.max_audio_seconds)
            return map_waveform(output, num_samples, truncated=status != 0)
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


def _run(
    line: list[str], blob: Blob, output: int, limits: AudioLimits, most_bytes: int
) -> tuple[int, str]:
    """Exit status, and the last line ffmpeg had to say. Raises StageTimeout."""
    started = time.monotonic()
    with subprocess.Popen(
        line,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        pass_fds=[blob.fd],
        env={"PATH": os.environ.get("PATH", ""), "AV_LOG_FORCE_NOCOLOR": "1"},
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        # Should this worker die, its ffmpeg still comes to an end.
        cpu_seconds = math.ceil(limits.allowed_seconds(limits.max_audio_seconds))
        _limit(process.pid, resource.RLIMIT_CPU, cpu_seconds)
        _limit(process.pid, resource.RLIMIT_AS, limits.memory_bytes)
        _limit(process.pid, resource.RLIMIT_CORE, 0)
        _limit(process.pid, resource.RLIMIT_FSIZE, most_bytes)
        said = b""
        poller = select.poll()
        poller.register(process.stderr)
        while True:
            decoded_seconds = os.fstat(output).st_size / SAMPLE_BYTES / SAMPLE_RATE_HZ
            allowed_seconds = limits.allowed_seconds(decoded_seconds)
            left_seconds = started + allowed_seconds - time.monotonic()
            if left_seconds <= 0:
                process.kill()
                raise StageTimeout(
                    f"ffmpeg was stopped after {allowed_seconds:g} s: convert the file to WAV, or "
                    "raise EMO_DECODE_TIMEOUT_SECONDS"
                )
            if poller.poll(1000 * min(left_seconds, _PROGRESS_SECONDS)):
                part = os.read(process.stderr.fileno(), _COMPLAINT_BYTES)
                if not part:  # it has closed its stderr: it has ended
                    break
                said = (said + part)[-_COMPLAINT_BYTES:]
        lines = said.decode(errors="replace").split("\n")
        return process.wait(), next((text.strip() for text in lines[::-1] if text.strip()), "")


def _limit(pid: int, which: int, value: int) -> None:
    """Limit another process; one that has ended needs no limit."""
    try:
        resource.prlimit(pid, which, (value, value))
    except ProcessLookupError:
        return


def _cause(status: int) -> str:
    """An exit status in words."""
    return signal.Signals(-status).name if status < 0 else "out of memory"
