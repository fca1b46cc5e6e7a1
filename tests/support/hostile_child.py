"""A decode process that a file has taken over: confined as the real one, it does as it is told.

The object it is given names what to try, or what to do to the worker.
"""

import ctypes
import errno
import fcntl
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable

from worker.audio.child import prepare
from worker.audio.pcm import seal
from worker.audio.protocol import Done, Failed, Part, Ready, Request, decode, encode

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
PR_SET_DUMPABLE = 4
SAMPLES = 1_600

Attempt = Callable[[], object]


def main(arguments: list[str]) -> None:
    """Take the place of `worker.audio.child`."""
    socket_fd, parent_pid, memory_bytes, part_bytes = map(int, arguments)
    others, memory = attempts_on(parent_pid), attempts_within(part_bytes)
    with socket.socket(fileno=socket_fd) as connection:
        refused = prepare(parent_pid, memory_bytes, part_bytes)
        send(connection, encode(Ready(refused)))
        while True:
            packet, fds, _, _ = socket.recv_fds(connection, 8_192, 1)
            if not packet:
                return
            request = decode(packet)
            assert isinstance(request, Request)
            name = os.pread(fds[0], request.size, 0).decode()
            os.close(fds[0])
            if name in MISDEEDS:
                misbehave(name, connection, part_bytes // 4)
            else:
                said = {each: outcome(act) for each, act in {**others, **memory}.items()}
                said["variables"] = " ".join(sorted(os.environ))
                send(connection, encode(Failed("internal", json.dumps(said))))


def outcome(act: Attempt) -> str:
    """The name of the error that an attempt ends in, or "done"."""
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except RuntimeError as error:  # a thread
        return f"{error}"
    return "done"


def attempts_on(worker_pid: int) -> dict[str, Attempt]:
    """What would lead out of the process."""
    worker = f"/proc/{worker_pid}"

    def fork() -> None:
        if not os.fork():
            os._exit(0)

    def native(call: str, *arguments: object) -> None:
        if getattr(LIBC, call)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), call)

    here, there = ctypes.create_string_buffer(8), id(LIBC)
    ours = struct.pack("@PN", ctypes.addressof(here), 8)
    theirs = struct.pack("@PN", there, 8)
    return {
        "read the worker's environment": lambda: os.open(f"{worker}/environ", os.O_RDONLY),
        "write the worker's memory": lambda: os.open(f"{worker}/mem", os.O_RDWR),
        "list the worker's files": lambda: os.listdir(f"{worker}/fd"),
        "trace the worker": lambda: native("ptrace", PTRACE_SEIZE, worker_pid, None, None),
        "copy the worker's memory": lambda: native(
            "process_vm_readv", worker_pid, ours, 1, theirs, 1, 0
        ),
        "read a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "read its own environment": lambda: os.open("/proc/self/environ", os.O_RDONLY),
        "write a file": lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR),
        "list a directory": lambda: os.listdir("/"),
        "remove a file": lambda: os.unlink("/tmp/there is none"),
        "make an internet socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "make a unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "fork": fork,
        "start a thread": threading.Thread(target=str, daemon=True).start,
        "start a program": lambda: subprocess.run(["/bin/true"], check=True),
        "become a program": lambda: os.execv("/bin/there is none", ["none"]),
        "signal the worker": lambda: os.kill(worker_pid, 0),
        "have signals sent to the worker": lambda: fcntl.fcntl(0, fcntl.F_SETOWN, worker_pid),
        "get hold of the worker": lambda: os.pidfd_open(worker_pid),
        "put keys into a terminal": lambda: fcntl.ioctl(2, termios.TIOCSTI, b"x"),
        "be looked into": lambda: native("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0),
        "raise its limits": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)),
    }


def attempts_within(part_bytes: int) -> dict[str, Attempt]:
    """What is allowed in principle, and not without measure."""

    def fill() -> None:
        for _ in range(32):
            taken.append(os.memfd_create("more"))

    def grow() -> None:
        os.pwrite(taken[0], b"x", max(part_bytes, 64 * 1024) + 1)

    def empty() -> None:
        for fd in taken:
            os.close(fd)
        os.close(os.memfd_create("again"))

    taken: list[int] = []
    return {"hold many descriptors": fill, "hold a long file": grow, "hold nothing": empty}


def samples(num_samples: int = SAMPLES, *, sealed: bool = True) -> int:
    """Memory with silence in it."""
    fd = os.memfd_create("pcm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.pwrite(fd, bytes(4 * num_samples), 0)
    if sealed:
        seal(fd)
    return fd


def send(connection: socket.socket, packet: bytes, *fds: int) -> None:
    """Send a packet, and descriptors that we do not keep."""
    socket.send_fds(connection, [packet], fds)
    for fd in fds[:1]:
        os.close(fd)


def flood(connection: socket.socket, part_samples: int) -> None:
    """Send parts without end."""
    while True:
        send(connection, encode(Part(10**18)), samples(part_samples))
        connection.recvmsg(8_192)


_DONE, _PART = encode(Done(SAMPLES, "", 0)), encode(Part(SAMPLES))
# What is sent in place of an answer: a packet and descriptors.
LIES: dict[str, Callable[[], tuple[bytes, *tuple[int, ...]]]] = {
    "memory that is not sealed": lambda: (_DONE, samples(sealed=False)),
    "more samples than there are": lambda: (_DONE, samples(SAMPLES - 1)),
    "fewer samples than there are": lambda: (_DONE, samples(SAMPLES + 1)),
    "no descriptor": lambda: (_DONE,),
    "a descriptor of something else": lambda: (_DONE, 0),
    "a part that is too short": lambda: (_PART, samples(SAMPLES // 2)),
    "a part that is not sealed": lambda: (_PART, samples(sealed=False)),
    "a part without a descriptor": lambda: (_PART,),
    "a message of the worker's": lambda: (encode(Request(1, 1, 1.0)), 0),
    "being ready again": lambda: (encode(Ready("")), 0),
    "endless time": lambda: (b'["Progress", {"decoded_seconds": 1e300}]', 0),
    "not a number": lambda: (b'["Part", {"expected_samples": NaN}]', 0),
    "many descriptors": lambda: (b"\xff" * 1_000, 0, 1, 2),
    "no message": lambda: (b"",),
}
MISDEEDS = [*LIES, "parts without end", "an end"]


def misbehave(name: str, connection: socket.socket, part_samples: int) -> None:
    """Do one of MISDEEDS."""
    if name == "an end":
        os._exit(0)
    if name == "parts without end":
        flood(connection, part_samples)
    send(connection, *LIES[name]())


if __name__ == "__main__":
    main(sys.argv[1:])
