"""Decode processes: FFmpeg's libraries where they can be killed, and hold no lock of ours.

One process per socket, not a pool whose one death fails every task in it: a file that crashes its
decoder, or never ends, costs its own job and nobody else's.
"""

import errno
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import structlog

from storage.errors import DecodeCrashed, Internal, JobError, StageTimeout
from storage.objects.blob import Blob
from worker.audio.limits import AudioLimits
from worker.audio.protocol import (
    MAX_MESSAGE_BYTES,
    Ask,
    Done,
    Failed,
    Message,
    Progress,
    Request,
    decode,
    encode,
)
from worker.audio.room import Spool
from worker.audio.spool import SAMPLE_BYTES
from worker.audio.spooling import Spooling
from worker.audio.waveform import map_waveform
from worker.clip import SAMPLE_RATE_HZ, Waveform

log = structlog.get_logger(__name__)

_ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0  # it takes a quarter of a second where nothing else runs
# The process parses hostile bytes: it is not handed the worker's credentials.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG")
# Keep freed memory for the next file: giving it back to the kernel costs a tenth of a decode.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": "67108864", "MALLOC_MMAP_THRESHOLD_": "4194304"}
_SAID_BYTES = 65_536  # what a pipe holds
_ERRORS = {kind.code: kind for kind in JobError.__subclasses__()}


class DecodeProcess:
    """One process and our end of its socket. Not thread-safe; borrowed by one thread at a time.

    To be started from a thread that outlives it: the kernel kills it when that thread ends.
    """

    def __init__(self, limits: AudioLimits) -> None:
        """Start it, without waiting until it is up."""
        self._limits = limits
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Not to block: what a pipe does not hold is lost, and nobody waits for it to be read.
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._stderr = os.fdopen(reading, "rb", buffering=0)
        with theirs, os.fdopen(writing, "wb") as stderr:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "worker.audio.child",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    str(limits.memory_bytes),
                ],
                cwd=_ROOT,
                env=_ALLOCATOR
                | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C in a terminal is for the worker alone
            )

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it can be given a file."""
        return self._process.poll() is None

    def wait_until_ready(self) -> None:
        """Return when it is up. Raises Internal when it does not come up."""
        try:
            self._receive(time.monotonic() + _START_SECONDS)
        except (TimeoutError, EOFError, ConnectionError) as error:
            self.kill()
            raise Internal(
                f"a decode process did not start (exit status {self._process.returncode}): see "
                "decode.process_said in the log, and check EMO_DECODE_MEMORY_BYTES"
            ) from error

    def decode(self, blob: Blob, spool: Spool) -> Waveform:
        """Waveform of an encoded file. Raises JobError; after a crash or timeout it is dead.

        Long audio takes room in `spool` for as long as its samples are there, and waits for it.
        """
        spooling = Spooling(spool)
        try:
            while (waveform := self._decode(blob, spooling)) is None:
                spooling.begin_again()
        except BaseException:
            spooling.close()
            raise
        if spooling.file is not None:
            spooling.file.close()
            weakref.finalize(waveform.samples, spooling.file.release).atexit = False
        return waveform

    def _decode(self, blob: Blob, spooling: Spooling) -> Waveform | None:
        """The waveform; None where there was no room for all of it at once."""
        limits = self._limits
        request = Request(
            size=blob.size,
            sample_rate_hz=SAMPLE_RATE_HZ,
            max_audio_seconds=limits.max_audio_seconds,
            memory_seconds=limits.window_seconds,
        )
        started = time.monotonic()
        allowed_seconds = limits.allowed_seconds(0)
        try:
            socket.send_fds(self._socket, [encode(request)], [blob.fd])
            while True:
                message, fds = self._receive(started + allowed_seconds)
                match message:
                    case Ask():
                        asked = time.monotonic()
                        room, place = spooling.answer(message)
                        started += time.monotonic() - asked  # waiting for room is no work
                        socket.send_fds(self._socket, [encode(room)], place)
                    case Failed() if spooling.error is not None:
                        raise spooling.error
                    case Failed() if spooling.begins_again:
                        return None
                    case Progress(decoded_seconds):
                        allowed_seconds = limits.allowed_seconds(decoded_seconds)
                    case Failed(code, text):
                        if code == DecodeCrashed.code:  # out of memory: its state is not trusted
                            self.kill()
                        raise _ERRORS.get(code, Internal)(text)
                    case Done():
                        return self._take(message, fds, spooling)
        except TimeoutError as error:
            self.kill()
            log.warning("decode.process_killed", pid=self.pid, allowed_seconds=allowed_seconds)
            raise StageTimeout(
                f"decoding was stopped after {allowed_seconds:g} s: convert the file to WAV, or "
                "raise EMO_DECODE_TIMEOUT_SECONDS"
            ) from error
        except (EOFError, ConnectionError) as error:
            self.kill()
            status = self._process.returncode
            log.warning("decode.process_died", pid=self.pid, status=status)
            raise DecodeCrashed(
                f"the decode process died of this file ({_cause(status)}): convert it to WAV"
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
        self._socket.close()
        self._log_stderr()
        self._stderr.close()

    def _receive(self, deadline: float) -> tuple[Message, list[int]]:
        """The next message and its descriptors. Raises TimeoutError, EOFError, ConnectionError."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        packet, fds, _, _ = socket.recv_fds(
            self._socket, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            raise EOFError
        return decode(packet), fds

    def _log_stderr(self) -> None:
        """Tracebacks that libraries print, and the like: events of ours, no lines beside them."""
        if not self._stderr.closed and (said := self._stderr.read(_SAID_BYTES)):
            text = said.decode(errors="replace")
            log.warning("decode.process_said", pid=self.pid, text=text)

    def _take(self, done: Done, fds: list[int], spooling: Spooling) -> Waveform:
        """The samples: in the spool where they were too many, else behind the descriptor."""
        if done.damaged_packets:
            log.info("decode.packets_left_out", packets=done.damaged_packets)
        try:
            if spooling.file is not None:
                spooling.file.shrink(done.num_samples * SAMPLE_BYTES)
                return map_waveform(spooling.file.fd, done.num_samples, truncated=done.truncated)
            if not fds:  # what the kernel could not hand over, it leaves out
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return map_waveform(fds[0], done.num_samples, truncated=done.truncated)
        finally:
            for fd in fds:
                os.close(fd)


class DecodeProcesses:
    """`count` decode processes. Thread-safe: a thread borrows one, and waits while all are out."""

    def __init__(self, count: int, limits: AudioLimits, spool: Spool | None = None) -> None:
        """Start them all, and wait until they are up. Raises Internal when they do not start.

        Long audio goes to `spool`, or one of their own; either is closed with them.
        """
        self.spool = spool or Spool(limits.spool_dir, limits.spool_bytes)
        self._limits = limits
        self._lock = threading.Lock()
        self._closed = False
        # The kernel kills a process when the thread that started it ends, not when ours does:
        # one thread that lives as long as the pool starts them all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decode-starter")
        self._running: set[DecodeProcess] = set()
        # Last in, first out: the process used last has its memory in the caches.
        self._idle: queue.LifoQueue[DecodeProcess | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(self._start())
        try:
            for process in self._running:
                process.wait_until_ready()
        except Internal:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids, for the log and the metrics."""
        with self._lock:
            return [process.pid for process in self._running]

    def decode(self, blob: Blob) -> Waveform:
        """Waveform of an encoded file; the blob stays the caller's. Raises JobError."""
        with self._borrowed() as process:
            return process.decode(blob, self.spool)

    def close(self) -> None:
        """End all processes, busy ones too: their files fail with DecodeCrashed."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            running = list(self._running)
        self.spool.close()
        for busy in running:
            busy.interrupt()
        for _ in running:  # each comes back from its borrower
            process = self._idle.get()
            assert process is not None  # None is put below, and by those who saw it
            process.kill()
        self._idle.put(None)
        self._starter.shutdown()

    @contextmanager
    def _borrowed(self) -> Iterator[DecodeProcess]:
        """A living process that is nobody else's meanwhile."""
        process = self._idle.get()
        if process is None:
            self._idle.put(None)  # for the next one who waits
            raise _closed()
        try:
            if not process.is_alive():
                process.kill()
                process = self._start(instead_of=process)
                process.wait_until_ready()
            yield process
        finally:
            self._idle.put(process)

    def _start(self, instead_of: DecodeProcess | None = None) -> DecodeProcess:
        """Start a process. Raises Internal once the pool is closed."""
        with self._lock:
            if self._closed:
                raise _closed()
            process = self._starter.submit(DecodeProcess, self._limits).result()
            if instead_of is not None:
                self._running.discard(instead_of)
            self._running.add(process)
            return process


def _closed() -> Internal:
    return Internal("the decode processes are closed: the worker is stopping")


def _cause(status: int) -> str:
    """An exit status in words."""
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"
