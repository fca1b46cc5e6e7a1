"""Decode in isolation, by FFmpeg's command line: for files that may have killed a worker before.

The program shares nothing with us but the object's descriptor and two pipes, has its memory, CPU
time and descriptors limited, and is killed when it takes too long. Unlike a decode process it may
call the kernel as it likes, for which it is given none of our environment. It costs ten times as
much.
"""

import errno
import itertools
import math
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from storage.errors import DecodeCrashed, JobError, NoAudioStream, NotAudio, StageTimeout
from storage.objects.blob import Blob, write_all
from storage.wire.channels import MIX
from worker.audio.joined import find_joined
from worker.audio.lanes import Lanes
from worker.audio.limits import (
    AudioLimits,
    empty_object,
    no_audio_stream,
    require_sound_rate,
    too_long,
)
from worker.audio.pcm import SAMPLE_BYTES
from worker.audio.program import command_line
from worker.audio.renditions import Decoded
from worker.audio.report import Report
from worker.audio.room import Spool
from worker.audio.spool import spool_failed
from worker.audio.waveform import map_lanes, require_one_frame
from worker.audio.wholeness import find_warnings
from worker.clip import SAMPLE_RATE_HZ, Renditions, Waveform
from worker.warning import AudioWarning, in_order

_EXIT_OUT_OF_MEMORY = 256 - errno.ENOMEM  # ffmpeg exits with its negative error, modulo 256
_READ_BYTES = 1024**2
_MOST_DESCRIPTORS = 32


def decode_isolated(
    blob: Blob,
    limits: AudioLimits,
    spool: Spool | None = None,
    channel: str = MIX,
    *,
    renditions: Renditions | None = None,
    render: Callable[[Decoded, Renditions], None] | None = None,
) -> tuple[Waveform, ...]:
    """Lanes of an object of any supported format; closes the blob.

    As a decode process gives them, and with their warnings, as far as ffmpeg says what they rest
    on; the channels are those that the file begins with. It runs alone: nobody else needs room in
    `spool`, which bounds it and reserves nothing. What is wanted besides, `render` puts into the
    `renditions`: of samples, which kill nobody. Raises NotAudio, NoAudioStream, AudioTooShort,
    AudioTooLong, InvalidJob, DecodeCrashed, StageTimeout, SpoolUnavailable, Internal.
    """
    spool = spool or Spool(limits.spool_dir, limits.spool_bytes)
    with blob:
        lanes = Lanes(channel)
        wanted: list[int | None] = [None]
        if channel != MIX:
            wanted = lanes.of(_count_channels(blob, limits, spool))
            lanes.end()
        with _output(spool) as output:
            isolated = _Isolated(blob, limits, spool, output, wanted)
            decoded, warnings = isolated.decode()
            require_one_frame(decoded.num_samples // decoded.lanes)
            if render is not None and renditions is not None:
                render(decoded, renditions)
            return map_lanes(
                output, decoded.num_samples, decoded.lanes, warnings, renditions=renditions
            )


def _count_channels(blob: Blob, limits: AudioLimits, spool: Spool) -> int:
    """How many channels a file begins with: as many samples as come of one moment of it.

    Raises as `decode_isolated`.
    """
    counts = []
    for lanes in ([None], []):  # mixed, and as they are
        with _output(spool) as output:
            moment = replace(limits, max_audio_seconds=0)
            counts.append(_Isolated(blob, moment, spool, output, lanes).count())
    mixed, all_of_them = counts
    return max(1, round(all_of_them / mixed))


@contextmanager
def _output(spool: Spool) -> Iterator[int]:
    output = spool.open()
    try:
        yield output
    finally:
        os.close(output)


class _Isolated:
    """One decode: a run of ffmpeg for each section of the file, and each track that fails."""

    def __init__(
        self,
        blob: Blob,
        limits: AudioLimits,
        spool: Spool,
        output: int,
        lanes: Sequence[int | None],
    ) -> None:
        """Without lanes, the channels stay as they are."""
        self._blob = blob
        self._limits = limits
        self._spool = spool
        self._output = output
        self._lanes = lanes
        self._started = time.monotonic()
        self._written_bytes = 0

    def count(self) -> int:
        """How many samples come of the beginning of it, in all lanes. Raises as `decode`."""
        self._sections()
        return self._written_bytes // SAMPLE_BYTES

    def decode(self) -> tuple[Decoded, tuple[AudioWarning, ...]]:
        """All of it, and what to doubt. Raises as `decode_isolated`."""
        found, lanes = self._sections(), len(self._lanes)
        num_samples = self._written_bytes // SAMPLE_BYTES
        if num_samples > lanes * self._limits.max_audio_seconds * SAMPLE_RATE_HZ:
            raise too_long(self._limits.max_audio_seconds)
        num_samples -= num_samples % lanes  # it may have died in between
        return Decoded(self._output, num_samples, lanes, file=True), in_order(found)

    def _sections(self) -> set[AudioWarning]:
        """Have all sections decoded; what to doubt of them."""
        joined = find_joined(self._blob.fd, self._blob.size)
        found = set(joined.warnings)
        refused: JobError | None = None
        for start, stop in joined.sections:
            try:
                found.update(self._section(start, stop))
            except (NotAudio, NoAudioStream) as error:
                if len(joined.sections) == 1:
                    raise
                refused = error
                found.add(AudioWarning.DAMAGED)
        if refused and not self._written_bytes:
            raise refused
        return found

    def _section(self, start: int, stop: int) -> tuple[AudioWarning, ...]:
        """Append the first audio track there that can be decoded; what to doubt of it."""
        refused = empty_object()
        for track in itertools.count() if stop > start else ():
            before_bytes = self._written_bytes
            report = self._run(start, stop, track)
            if report.has_no_track:
                if track == 0:
                    raise no_audio_stream()
                break
            if report.sample_rate_hz:
                require_sound_rate(report.sample_rate_hz)
            if report.status < 0 or report.status == _EXIT_OUT_OF_MEMORY:
                raise DecodeCrashed(
                    f"ffmpeg died of this file ({_cause(report.status)}): convert it to WAV, or "
                    "raise EMO_DECODE_MEMORY_BYTES"
                )
            num_bytes = self._written_bytes - before_bytes
            seconds = num_bytes / SAMPLE_BYTES / SAMPLE_RATE_HZ / max(1, len(self._lanes))
            report.require_sound(self._blob.fd, seconds)
            if num_bytes:
                track_said, heard = report.evidence(self._blob.fd, seconds)
                return in_order(find_warnings(self._blob.fd, self._blob.size, track_said, heard))
            if track == 0:
                refused = NotAudio(
                    f"ffmpeg finds no audio in the object ({report.complaint}): send another"
                )
            if not report.has_opened:
                break
        raise refused

    def _run(self, start: int, stop: int, track: int) -> Report:
        """Have ffmpeg write to our output, by way of us. Raises StageTimeout, SpoolUnavailable.

        How the channels are to be mixed, it says itself: where it was told otherwise, anew.
        """
        whole = (start, stop) == (0, self._blob.size)
        section = None if whole else (start, stop)
        before_bytes, is_mixed = self._written_bytes, None in self._lanes
        try:
            for alike in (False, True):
                line = command_line(
                    self._blob.fd, section, track, self._limits, self._lanes, alike=alike
                )
                report = self._follow(line, Report(track), must_know=is_mixed and not alike)
                if alike or not (is_mixed and report.counts_alike):
                    break
                self._written_bytes = os.lseek(self._output, before_bytes, os.SEEK_SET)
                os.ftruncate(self._output, before_bytes)
            return report
        except OSError as error:
            raise spool_failed(self._spool.directory, error) from error

    def _follow(self, line: list[str], report: Report, *, must_know: bool) -> Report:
        """Run it to its end. Raises StageTimeout, AudioTooLong, OSError.

        `must_know`: or until it says that its channels are to be mixed in equal parts. Nobody else
        has that file open: nothing that ffmpeg started can cut it short later.
        """
        with subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[self._blob.fd],
            env={"PATH": os.environ.get("PATH", ""), "AV_LOG_FORCE_NOCOLOR": "1"},
            start_new_session=True,
        ) as process:
            _confine(process.pid, self._limits)
            assert process.stdout is not None
            assert process.stderr is not None
            samples, complaints = process.stdout.fileno(), process.stderr.fileno()
            poller = select.poll()
            open_pipes = {samples, complaints}
            for pipe in open_pipes:
                poller.register(pipe)
            try:
                while True:
                    decoded_seconds = self._written_bytes / SAMPLE_BYTES / SAMPLE_RATE_HZ
                    allowed_seconds = self._limits.allowed_seconds(decoded_seconds)
                    left_seconds = self._started + allowed_seconds - time.monotonic()
                    if left_seconds <= 0:
                        raise subprocess.TimeoutExpired(line, allowed_seconds)
                    if not open_pipes:
                        report.status = process.wait(left_seconds)
                        return report
                    for pipe, _ in poller.poll(1000 * left_seconds):
                        part = os.read(pipe, _READ_BYTES)
                        if not part:
                            poller.unregister(pipe)
                            open_pipes.remove(pipe)
                        elif pipe == samples:
                            self._written_bytes += len(part)
                            self._spool.require_fitting(self._written_bytes)
                            write_all(self._output, part)
                            self._spool.told(self._written_bytes)
                        else:
                            report.take(part)
                            if must_know and report.counts_alike:
                                process.kill()
                                return report
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise StageTimeout(
                    f"ffmpeg was stopped after {allowed_seconds:g} s: convert the file to WAV, or "
                    "raise EMO_DECODE_TIMEOUT_SECONDS"
                ) from error
            except BaseException:
                process.kill()
                raise


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
