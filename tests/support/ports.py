"""Ports for servers that are started later, or again: nobody else is given them meanwhile."""

import socket
from contextlib import suppress

from storage.redis import embedded

_find = embedded.free_port
_held: list[socket.socket] = []


def own_port(*, and_beyond: int = 0) -> int:
    """A loopback port that is this process's until it ends; and the one so far `and_beyond` it.

    Nobody listens there, until a server does that was told to. Other tests and programs, which look
    for free ones, do not find it free: a socket is bound to it that does not listen, beside which
    the kernel lets none but servers with SO_REUSEADDR in, as all of ours have it.
    """
    while True:
        port = _find()
        ours = [socket.socket() for _ in ({port, port + and_beyond})]
        with suppress(OSError):
            for sock, number in zip(ours, sorted({port, port + and_beyond}), strict=True):
                sock.bind(("127.0.0.1", number))
            for sock in ours:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _held.extend(ours)
            return port
        for sock in ours:
            sock.close()


def hold_all_ports() -> None:
    """From now on, an embedded Redis has its port for good, running or not."""
    embedded.free_port = own_port
