"""Decode processes: FFmpeg's libraries where they can be killed, and hold no lock of ours.

One process per socket, not a pool whose one death fails every task in it: a file that crashes its
decoder, or never ends, costs its own job and nobody else's.
"""

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import structlog

from storage.errors import Internal
from storage.objects.blob import Blob
from storage.wire.channels import MIX
from worker.audio.limits import AudioLimits
from worker.audio.process import DecodeProcess
from worker.audio.renditions import Decoded
from worker.audio.room import Spool
from worker.audio.streaming import StartStream
from worker.clip import Renditions, Waveform

log = structlog.get_logger(__name__)


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
        self._refused: set[str] = set()
        # Last in, first out: the process used last has its memory in the caches.
        self._idle: queue.LifoQueue[DecodeProcess | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(self._start())
        try:
            for process in self._running:
                self._await(process)
        except Internal:
            self.close()
            raise

    @property
    def pids(self) -> list[int]:
        """Process ids, for the log and the metrics."""
        with self._lock:
            return [process.pid for process in self._running]

    @property
    def confined(self) -> bool:
        """Whether the kernel let every process give up what it does not need."""
        return not self._refused

    def decode(
        self,
        blob: Blob,
        channel: str = MIX,
        renditions: Renditions | None = None,
        resampler: StartStream | None = None,
    ) -> tuple[Waveform, ...]:
        """Lanes of an encoded file; the blob stays the caller's. Raises JobError.

        What is wanted of it besides is put into `renditions`. With a `resampler` it may keep its
        own rate: where it is long, that is used on the way.
        """
        with self._borrowed() as process:
            return process.decode(blob, self.spool, channel, renditions, resampler)

    def render(self, decoded: Decoded, renditions: Renditions) -> None:
        """The same of samples that somebody else decoded. Raises JobError."""
        with self._borrowed() as process:
            process.render(decoded, renditions)

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
            if not process.is_alive() or process.is_worn():
                process.kill()
                process = self._start(instead_of=process)
                self._await(process)
            yield process
        finally:
            self._idle.put(process)

    def _await(self, process: DecodeProcess) -> None:
        """Wait until it is up, and say once what the kernel refused. Raises Internal."""
        process.wait_until_ready()
        if process.refused and process.refused not in self._refused:
            self._refused.add(process.refused)
            log.error("decode.unconfined", refused=process.refused)

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
