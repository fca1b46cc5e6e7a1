"""`python -m worker.audio.attempts MEMORY_BYTES PART_BYTES`: is a decode process really confined?

It gives up what a decode process gives up, decodes the same silence, and then tries what it must
not be able to do. Prints one JSON object: `refused`, as a decode process has it, and `possible`,
what it could do nonetheless. Free of numpy, as a decode process is.
"""

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping

from worker.audio.child import prepare


def main(arguments: list[str]) -> None:
    """Be confined, try, and say."""
    memory_bytes, part_bytes = map(int, arguments)
    parent = os.getppid()
    refused = prepare(parent, memory_bytes, part_bytes)
    possible = [name for name, attempt in attempts(parent).items() if _succeeds(attempt)]
    os.write(1, json.dumps({"refused": refused, "possible": possible}).encode())


def attempts(parent: int) -> Mapping[str, Callable[[], object]]:
    """What decoding does not need, each harmless if it succeeds."""
    return {
        "open a file": lambda: os.close(os.open("/etc/passwd", os.O_RDONLY)),
        "read the worker's environment": lambda: _read(f"/proc/{parent}/environ"),
        "make a socket": lambda: socket.socket(socket.AF_INET).close(),
        "signal the worker": lambda: os.kill(parent, 0),
        "start a process": _fork,
    }


def _read(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.read(fd, 1)
    finally:
        os.close(fd)


def _fork() -> None:
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, RuntimeError):
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
