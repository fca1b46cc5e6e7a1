"""A decode process that a file has taken over: confined as the real one, it does as it is told.

The object it is given names what to try, or what to do to the worker.
"""

import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from functools import partial

from storage.wire.channels import MIX
from worker.audio.child import prepare
from worker.audio.protocol import (
    Again,
    Done,
    Failed,
    Part,
    Piece,
    Ready,
    Render,
    Rendered,
    Request,
    decode,
    encode,
)

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE = 0x4206
PR_SET_DUMPABLE = 4
SAMPLES = 1_600
KEPT: list[mmap.mmap] = []

Attempt = Callable[[], object]


def main(arguments: list[str]) -> None:
    """Take the place of `worker.audio.child`."""
    socket_fd, parent_pid, memory_bytes, part_bytes = map(int, arguments)
    others = attempts_on(parent_pid)
    name = ""
    with socket.socket(fileno=socket_fd) as connection:
        refused = prepare(parent_pid, memory_bytes, part_bytes)
        send(connection, encode(Ready(refused)))
        while True:
            packet, (fd, memory), _, _ = socket.recv_fds(connection, 8_192, 2)
            request = decode(packet)
            if isinstance(request, Render):
                misrender(name, connection, fd, memory, part_bytes)
                continue
            assert isinstance(request, Request)
            name = os.pread(fd, request.size, 0).decode()
            os.close(fd)
            if name in (*RENDER_MISDEEDS, "write the samples", "take for ever"):
                hand_in(connection, memory, part_bytes // 4)
            elif name in MISDEEDS:
                misbehave(name, connection, memory, part_bytes // 4)
            else:
                within: dict[str, Attempt] = {
                    "hold a long file": partial(write, memory, 1, max(part_bytes, 64 * 1024))
                }
                said = {each: outcome(act) for each, act in {**others, **within}.items()}
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

    def send_descriptor() -> None:
        socket.send_fds(ends[0], [b"one"], [0])

    ends = socket.socketpair()
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
        "make memory": lambda: os.memfd_create("more"),
        "send a descriptor": send_descriptor,
        "hold a descriptor twice": lambda: os.dup(0),
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


def write(memory: int, num_samples: int, offset: int = 0) -> None:
    """Silence."""
    os.pwrite(memory, bytes(4 * num_samples), offset)


def send(connection: socket.socket, packet: bytes) -> None:
    """Send a packet."""
    os.write(connection.fileno(), packet)


def flood(connection: socket.socket, memory: int, part_samples: int) -> None:
    """Send parts without end."""
    while True:
        write(memory, part_samples)
        send(connection, encode(Part(10**18)))
        os.close(memory)
        _, (memory,), _, _ = socket.recv_fds(connection, 8_192, 1)


_DONE, _PART = encode(Done(SAMPLES, 1, "", 0)), encode(Part(SAMPLES))
# What is sent in place of an answer, and how many samples it wrote before.
LIES = {
    "more samples than there are": (_DONE, SAMPLES - 1),
    "fewer samples than there are": (_DONE, SAMPLES + 1),
    "no samples": (_DONE, 0),
    "a part that is too short": (_PART, SAMPLES // 2),
    "a part that is too long": (_PART, SAMPLES + 1),
    "a part of nothing": (_PART, 0),
    "lanes that nobody asked for": (encode(Done(SAMPLES, 2, "", 0)), SAMPLES),
    "a warning that is none": (encode(Done(SAMPLES, 1, "sold out", 0)), SAMPLES),
    "a warning that is not of a file": (encode(Done(SAMPLES, 1, "untrained_model", 0)), SAMPLES),
    "no lane": (encode(Done(SAMPLES, 0, "", 0)), SAMPLES),
    "channels that nobody asked for": (encode(Again(2)), SAMPLES),
    "a rate that nobody asked for": (encode(Done(SAMPLES, 1, "", 0, 8_000)), SAMPLES),
    "samples that nobody asked for": (encode(Done(SAMPLES, 1, "", 0, 0, 2)), SAMPLES // 2),
    "a part at a rate that nobody asked for": (encode(Part(SAMPLES, 8_000)), SAMPLES),
    "a file in several forms": (encode(Again(0)), SAMPLES),
    "a message of the worker's": (encode(Request(1, 1, 1.0, MIX, 0)), SAMPLES),
    "being ready again": (encode(Ready("")), SAMPLES),
    "endless time": (b'["Progress", {"decoded_seconds": 1e300}]', SAMPLES),
    "not a number": (b'["Part", {"expected_samples": NaN}]', SAMPLES),
    "no text": (b"\xff" * 1_000, SAMPLES),
    "no message": (b"", SAMPLES),
}
CHANGEABLE = {"memory that it can change": _DONE, "a part that it can change": _PART}
MISDEEDS = [*LIES, *CHANGEABLE, "parts without end", "an end"]


def misbehave(name: str, connection: socket.socket, memory: int, part_samples: int) -> None:
    """Do one of MISDEEDS."""
    if name == "an end":
        os._exit(0)
    if name == "parts without end":
        flood(connection, memory, part_samples)
    packet, num_samples = LIES.get(name) or (CHANGEABLE[name], SAMPLES)
    write(memory, num_samples)
    if name in CHANGEABLE:
        KEPT.append(mmap.mmap(memory, 4 * num_samples))
    send(connection, packet)


def hand_in(connection: socket.socket, memory: int, part_samples: int) -> None:
    """A part and a few samples more, as an honest process does: so they lie in the spool."""
    write(memory, part_samples)
    send(connection, encode(Part(part_samples + SAMPLES)))
    os.close(memory)
    _, (memory,), _, _ = socket.recv_fds(connection, 8_192, 1)
    write(memory, SAMPLES)
    send(connection, _DONE)
    os.close(memory)


def misrender(
    name: str, connection: socket.socket, samples: int, memory: int, part_bytes: int
) -> None:
    """Do one of RENDER_MISDEEDS in place of rendering, or what its name says."""
    if name == "rendering: an end":
        os._exit(0)
    if name == "take for ever":
        threading.Event().wait()
    if name == "write the samples":
        tried = (lambda: os.pwrite(samples, b"x", 0), lambda: os.pwrite(samples, b"x", 1 << 20))
        send(connection, encode(Failed("internal", " ".join(map(outcome, tried)))))
    if name == "rendering: pieces without end":
        while True:
            os.pwrite(memory, bytes(part_bytes), 0)
            send(connection, encode(Piece()))
            os.close(memory)
            _, (memory,), _, _ = socket.recv_fds(connection, 8_192, 1)
    if name in RENDER_LIES:
        packet, num_bytes = RENDER_LIES[name]
        os.pwrite(memory, bytes(num_bytes), 0)
        if name == "rendering: memory that it can change":
            KEPT.append(mmap.mmap(memory, num_bytes))
        send(connection, packet)


_RENDERED = encode(Rendered(100))
# The same for what is to be made of samples.
RENDER_LIES = {
    "rendering: more than there is": (_RENDERED, 99),
    "rendering: less than there is": (_RENDERED, 101),
    "rendering: memory that it can change": (_RENDERED, 100),
    "rendering: a piece that is too short": (encode(Piece()), 100),
    "rendering: samples": (_DONE, 4 * SAMPLES),
    "rendering: a part": (_PART, 4 * SAMPLES),
    "rendering: an order": (encode(Render("peaks", 1, 1, 1)), 100),
    "rendering: a failure": (encode(Failed("not_audio", "no")), 0),
    "rendering: no message": (b"", 0),
}
RENDER_MISDEEDS = [*RENDER_LIES, "rendering: pieces without end", "rendering: an end"]


if __name__ == "__main__":
    main(sys.argv[1:])
