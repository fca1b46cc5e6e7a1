"""Our end of the socket of a decode process, which may send anything."""

import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from worker.audio.pcm import require_sealed
from worker.audio.protocol import MAX_MESSAGE_BYTES, Message, Misbehaved, decode, encode


@dataclass(frozen=True, slots=True)
class Attachment:
    """The descriptors that came with a message, closed once that has been dealt with."""

    fds: Sequence[int]
    flags: int

    def samples(self, num_samples: int) -> int:
        """Descriptor of sealed memory of so many samples. Raises Misbehaved.

        OSError where we have no descriptor left for it.
        """
        if not self.fds:
            if self.flags & socket.MSG_CTRUNC:  # what the kernel could not hand over, it leaves out
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            raise Misbehaved("it sent no samples")
        require_sealed(self.fds[0], num_samples)
        return self.fds[0]


class Channel:
    """Messages over a SOCK_SEQPACKET socket. Not thread-safe."""

    def __init__(self, end: socket.socket) -> None:
        """Take over our end."""
        self._socket = end

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message. Raises TimeoutError, ConnectionError."""
        socket.send_fds(self._socket, [encode(message)], fds)

    @contextmanager
    def receive(self, deadline: float) -> Iterator[tuple[Message, Attachment]]:
        """The next message, by `time.monotonic()`, and what came with it.

        Raises TimeoutError, EOFError, ConnectionError, Misbehaved.
        """
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        packet, fds, flags, _ = socket.recv_fds(
            self._socket, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
        )
        try:
            if not packet:
                raise EOFError
            yield decode(packet), Attachment(fds, flags)
        finally:
            for fd in fds:
                os.close(fd)

    def close(self) -> None:
        """Close it; harmless where it is."""
        self._socket.close()
