"""Our end of the socket of a decode process, which may send anything but descriptors."""

import socket
import time
from collections.abc import Sequence

from worker.audio.protocol import MAX_MESSAGE_BYTES, Message, decode, encode


class Channel:
    """Messages over a SOCK_SEQPACKET socket. Not thread-safe."""

    def __init__(self, end: socket.socket) -> None:
        """Take over our end."""
        self._socket = end

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message. Raises TimeoutError, ConnectionError."""
        socket.send_fds(self._socket, [encode(message)], fds)

    def receive(self, deadline: float) -> Message:
        """The next message, by `time.monotonic()`; the kernel closes what may come with it.

        Raises TimeoutError, EOFError, ConnectionError, Misbehaved.
        """
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        packet = self._socket.recv(MAX_MESSAGE_BYTES)
        if not packet:
            raise EOFError
        return decode(packet)

    def close(self) -> None:
        """Close it; harmless where it is."""
        self._socket.close()
