"""One decode process, as the worker sees it: trusted with nothing that it says or sends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

import structlog

from storage.errors import (
    DecodeCrashed,
    Internal,
    StageTimeout,
)
from storage.objects.blob import Blob
from storage.wire.channels import MIX
from worker.audio.channel import Channel
from worker.audio.decoding import Decoding
from worker.audio.limits import AudioLimits
from worker.audio.pcm import SAMPLE_BYTES, Memory
from worker.audio.protocol import (
    Again,
    Done,
    Failed,
    GiveUp,
    GoOn,
    Misbehaved,
    Part,
    Piece,
    Ready,
    Rendered,
)
from worker.audio.renditions import Decoded, Rendering, readable
from worker.audio.room import Spool
from worker.audio.streaming import StartStream
from worker.clip import SAMPLE_RATE_HZ, Renditions, Waveform

log = structlog.get_logger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = "worker.audio.child"
_START_SECONDS = 60.0  # it takes a quarter of a second where nothing else runs
_LAST_WORDS_SECONDS = 1.0
# The process parses hostile bytes: it is not handed the worker's credentials.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG")
# Keep freed memory for the next file: giving it back to the kernel costs a tenth of a decode.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",  # it has one thread
    "MALLOC_TRIM_THRESHOLD_": "67108864",
    "MALLOC_MMAP_THRESHOLD_": "4194304",
}
# What a file did to its process must not go on for ever.
_MOST_FILES = 5_000
_MOST_GROWTH_BYTES = 64 * 1024**2
_STATM_BYTES = 256
_SAID_BYTES = 65_536  # what a pipe holds
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def child_environment() -> dict[str, str]:
    """The variables of a decode process."""
    return _ALLOCATOR | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}


class DecodeProcess:
    """One process and our end of its socket. Not thread-safe; borrowed by one thread at a time.

    To be started from a thread that outlives it: the kernel kills it when that thread ends.
    """

    def __init__(self, limits: AudioLimits) -> None:
        """Start it, without waiting until it is up."""
        self.refused = ""  # what the kernel did not let it give up
        self._limits = limits
        self._part_samples = int(limits.window_seconds * SAMPLE_RATE_HZ)
        self._files = 0
        self._first_bytes = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Not to block: what a pipe does not hold is lost, and nobody waits for it to be read.
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stderr = os.fdopen(reading, "rb", buffering=0)
        with theirs, os.fdopen(writing, "wb") as stderr:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    _PROGRAM,
                    str(theirs.fileno()),
                    str(os.getpid()),
                    str(limits.memory_bytes),
                    str(self._part_samples * SAMPLE_BYTES),
                ],
                cwd=_ROOT,
                env=child_environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # `classify` prints its results there
                stderr=stderr,
                start_new_session=True,  # Ctrl-C in a terminal is for the worker alone
            )
        self._connection = Channel(ours)
        # Opened before it hides, and read after each file.
        self._statm = FileIO(f"/proc/{self.pid}/statm")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it can be given a file."""
        return self._process.poll() is None

    def is_worn(self) -> bool:
        """Whether it has had so many files, or grown so much, that another should take over."""
        grown_bytes = self._resident_bytes() - self._first_bytes
        return self._files >= _MOST_FILES or grown_bytes > _MOST_GROWTH_BYTES

    def wait_until_ready(self) -> None:
        """Return when it is up. Raises Internal when it does not come up."""
        try:
            message = self._connection.receive(time.monotonic() + _START_SECONDS)
            if not isinstance(message, Ready):
                raise Misbehaved(f"it began with {message!r:.100}")
            self.refused = message.refused
            self._first_bytes = self._resident_bytes()
        except (TimeoutError, EOFError, ConnectionError, Misbehaved) as error:
            self._end(error)
            raise Internal(
                f"a decode process did not start (exit status {self._process.returncode}): see "
                "decode.process_said in the log, and check EMO_DECODE_MEMORY_BYTES"
            ) from error

    def decode(
        self,
        blob: Blob,
        spool: Spool,
        channel: str = MIX,
        renditions: Renditions | None = None,
        resampler: StartStream | None = None,
    ) -> tuple[Waveform, ...]:
        """Lanes of an encoded file. Raises JobError; after a crash or timeout it is dead.

        Long audio takes room in `spool` for as long as its samples are there, and waits for it.
        What is wanted of it besides is put into `renditions`. What a `resampler` is given for may
        be left at its own rate, where it is not long.
        """
        self._files += 1
        decoding = Decoding(self._limits, spool, channel, renditions, resampler)
        spooling = decoding.spooling
        try:
            while True:
                with Memory() as memory:
                    decoded = self._decode(blob, memory, decoding)
                    if decoded is not None:
                        if renditions is not None:
                            self.render(decoded, renditions)
                        lanes = decoding.lanes(decoded)
                        break
                decoding.begin_anew()
        except BaseException:
            spooling.close()
            raise
        finally:
            decoding.close()
        if spooling.file is not None:
            spooling.file.close()
        return lanes

    def render(self, decoded: Decoded, renditions: Renditions) -> None:
        """Have what is wanted made of decoded samples. Raises JobError; then it is dead."""
        num_samples = decoded.num_samples // decoded.lanes
        seconds = self._limits.allowed_seconds(num_samples / SAMPLE_RATE_HZ)
        try:
            for what in sorted(renditions.wanted):
                with self._watched(lambda: seconds), readable(decoded.fd) as samples:
                    rendering = Rendering(what, decoded)
                    self._render(rendering, samples, time.monotonic() + seconds)
                    rendering.finish(renditions)
        except BaseException:
            self.kill()  # it may be in the middle of it
            raise

    def _render(self, rendering: Rendering, samples: int, deadline: float) -> None:
        """Take all that it makes of the samples."""
        with Memory() as memory:
            self._connection.send(rendering.order, [samples, memory.fd])
            while True:
                match message := self._connection.receive(deadline):
                    case Piece():
                        num_bytes = self._part_samples * SAMPLE_BYTES
                        rendering.take(memory.sealed(num_bytes), num_bytes)
                        memory.renew()
                        self._connection.send(GoOn(), [memory.fd])
                    case Rendered(num_bytes):
                        return rendering.take(memory.sealed(num_bytes), num_bytes)
                    case Failed():
                        raise DecodeCrashed(f"{rendering.what}: {message.message}")
                    case _:
                        raise Misbehaved(f"it answered with {message!r:.100}")

    def _decode(self, blob: Blob, memory: Memory, decoding: Decoding) -> Decoded | None:
        """The samples; None where it has to begin anew."""
        started = time.monotonic()
        with self._watched(lambda: decoding.allowed_seconds):
            self._connection.send(decoding.request(blob.size), [blob.fd, memory.fd])
            while True:
                message = self._connection.receive(started + decoding.allowed_seconds)
                match message:
                    case Part():
                        asked = time.monotonic()
                        kept = decoding.keep(message, memory)
                        started += time.monotonic() - asked  # waiting for room is no work
                        self._connection.send(*((GoOn(), [memory.fd]) if kept else (GiveUp(), [])))
                    case Failed() if decoding.spooling.begins_again:
                        return None
                    case Failed():
                        if message.code == DecodeCrashed.code:  # out of memory: it is not trusted
                            self.kill()
                        raise decoding.failed(message)
                    case Again(channels) if decoding.begins_anew(channels):
                        return None
                    case Done():
                        return decoding.take(message, memory)
                    case _:
                        raise Misbehaved(f"it answered with {message!r:.100}")

    @contextmanager
    def _watched(self, allowed: Callable[[], float]) -> Iterator[None]:
        """Kill it where it takes longer than `allowed`, in seconds, or does what it must not."""
        try:
            yield
        except TimeoutError as error:
            self.kill()
            allowed_seconds = allowed()
            log.warning("decode.process_killed", pid=self.pid, allowed_seconds=allowed_seconds)
            raise StageTimeout(
                f"decoding was stopped after {allowed_seconds:g} s: convert the file to WAV, or "
                "raise EMO_DECODE_TIMEOUT_SECONDS"
            ) from error
        except (EOFError, ConnectionError) as error:
            self._end(error)
            status = self._process.returncode
            log.warning("decode.process_died", pid=self.pid, status=status)
            raise DecodeCrashed(
                f"the decode process died of this file ({_cause(status)}): convert it to WAV"
            ) from error
        except Misbehaved as error:
            self.kill()
            log.error("decode.process_misbehaved", pid=self.pid, error=str(error))
            raise DecodeCrashed(
                f"the decode process was killed over this file ({error}): convert it to WAV"
            ) from error
        finally:
            self._log_stderr()

    def interrupt(self) -> None:
        """Send it SIGKILL; the one call allowed while another thread has it borrowed."""
        self._process.kill()

    def kill(self) -> None:
        """End it at once, whatever it does; harmless when it is dead."""
        self._process.kill()  # works on a stopped process too
        self._process.wait()
        self._connection.close()
        self._statm.close()
        self._log_stderr()
        self._stderr.close()

    def _end(self, error: Exception) -> None:
        """Kill it; one that hung up is ending by itself, and may have something to say of why."""
        if isinstance(error, EOFError | ConnectionError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WORDS_SECONDS)
        self.kill()

    def _log_stderr(self) -> None:
        """Tracebacks that libraries print, and the like: events of ours, no lines beside them."""
        if not self._stderr.closed and (said := self._stderr.read(_SAID_BYTES)):
            text = said.decode(errors="replace")
            log.warning("decode.process_said", pid=self.pid, text=text)

    def _resident_bytes(self) -> int:
        """Memory it has in use; 0 once it is dead."""
        try:
            statm = os.pread(self._statm.fileno(), _STATM_BYTES, 0)
        except ProcessLookupError:
            return 0
        return int(statm.split()[1]) * _PAGE_BYTES


def _cause(status: int) -> str:
    """An exit status in words."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
