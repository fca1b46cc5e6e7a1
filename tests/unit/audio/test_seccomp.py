"""The filter of system calls, run by a small interpreter of the kernel's own code for it."""

import errno
import fcntl
import os
import re
import struct
from pathlib import Path

import pytest

from worker.audio.seccomp import CALLS, MACHINES, Machine, program

PID = 4711
ALLOWED = 0x7FFF_0000
KILLED = 0x8000_0000
UNKNOWN = 0x0005_0000 | errno.ENOSYS
REFUSED = 0x0005_0000 | errno.EPERM
CHECKED = ("fcntl", "prctl", "tgkill")
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
# What nobody who decodes may do, by its numbers on either machine.
FORBIDDEN = {
    "x86_64": {
        **{"open": 2, "openat": 257, "openat2": 437, "socket": 41, "connect": 42, "sendto": 44},
        **{"clone": 56, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "kill": 62},
        **{"clone3": 435, "ptrace": 101, "ftruncate": 77, "process_vm_readv": 310, "unlink": 87},
        **{"process_vm_writev": 311, "io_uring_setup": 425, "pidfd_getfd": 438, "prlimit64": 302},
        **{"memfd_create": 319, "sendmsg": 46, "sendmmsg": 307, "dup": 32},
        **{"bpf": 321, "mount": 165, "setns": 308, "ioctl": 16, "x32 read": 0x4000_0000},
    },
    "aarch64": {
        **{"openat": 56, "openat2": 437, "socket": 198, "connect": 203, "sendto": 206},
        **{"clone": 220, "clone3": 435, "execve": 221, "execveat": 281, "kill": 129},
        **{"ptrace": 117, "ftruncate": 46, "process_vm_readv": 270, "process_vm_writev": 271},
        **{"io_uring_setup": 425, "pidfd_getfd": 438, "prlimit64": 261, "unlinkat": 35},
        **{"memfd_create": 279, "sendmsg": 211, "sendmmsg": 269, "dup": 23},
        **{"bpf": 280, "mount": 40, "setns": 268, "ioctl": 29},
    },
}

each_machine = pytest.mark.parametrize("name", MACHINES)


def verdict(machine: Machine, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the filter returns for a call."""
    code = [struct.unpack("=HBBI", part) for part in _eights(program(machine, PID))]
    architecture = machine.architecture if architecture is None else architecture
    call = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    position, loaded = 0, 0
    while True:
        kind, if_so, if_not, value = code[position]
        position += 1
        if kind == 0x20:
            (loaded,) = struct.unpack_from("<I", call, value)
        elif kind == 0x15:
            position += if_so if loaded == value else if_not
        else:
            assert kind == 0x06
            return int(value)


def _eights(code: bytes) -> list[bytes]:
    return [code[start : start + 8] for start in range(0, len(code), 8)]


def numbers(name: str) -> dict[str, int]:
    """The calls of CALLS that a machine has."""
    rows = {call: row[MACHINES[name].column] for call, row in CALLS.items()}
    return {call: number for call, number in rows.items() if number is not None}


@each_machine
def test_what_is_not_needed_is_as_if_it_were_not_there(name: str) -> None:
    """Of all numbers that a kernel may know, those in the table are allowed, and no other."""
    calls = numbers(name)
    allowed = {number for call, number in calls.items() if call not in CHECKED}
    for number in {*range(600), *range(0x4000_0000, 0x4000_0258), 2**32 - 1}:
        if number not in {calls[call] for call in CHECKED}:
            expected = ALLOWED if number in allowed else UNKNOWN
            assert verdict(MACHINES[name], number) == expected, number


@each_machine
def test_nothing_that_leads_out_is_allowed(name: str) -> None:
    """Files, sockets, processes, threads, other memory, and what would undo the filter."""
    for call, number in FORBIDDEN[name].items():
        assert verdict(MACHINES[name], number, 0x11, 0x11) == UNKNOWN, call


@each_machine
def test_of_some_calls_a_part_is_allowed(name: str) -> None:
    """Nobody else may be sent a signal by F_SETOWN, nor a descriptor be doubled by F_DUPFD."""
    machine, calls = MACHINES[name], numbers(name)
    for command in range(2_000):
        fine = command in (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL)
        assert verdict(machine, calls["fcntl"], 3, command) == (ALLOWED if fine else REFUSED)
    for option in range(100):
        assert verdict(machine, calls["prctl"], option) == (ALLOWED if option == 15 else REFUSED)
    assert verdict(machine, calls["tgkill"], PID, 1, 6) == ALLOWED
    assert verdict(machine, calls["tgkill"], PID + 1, 1, 6) == REFUSED


@each_machine
def test_the_calls_of_another_architecture_are_deadly(name: str) -> None:
    """Its numbers mean something else: a 32-bit call would pass for an allowed one."""
    for architecture in {0x4000_0003, *(machine.architecture for machine in MACHINES.values())}:
        if architecture != MACHINES[name].architecture:
            assert verdict(MACHINES[name], 0, architecture=architecture) == KILLED


@each_machine
def test_the_numbers_are_the_kernels(name: str) -> None:
    """The table agrees with the headers that come with the kernel."""
    for header in HEADERS[name]:
        if os.path.exists(header):
            break
    else:
        pytest.skip(f"NO kernel headers for {name} here: the table was compared with nothing")
    text = Path(header).read_text(encoding="ascii")
    theirs = {
        call: int(number)
        for call, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\n", text)
    }
    theirs.setdefault("newfstatat", theirs.get("fstatat", -1))
    ours = {**numbers(name), "seccomp": MACHINES[name].seccomp}
    assert ours == {call: theirs.get(call) for call in ours}
    assert FORBIDDEN[name].items() - theirs.items() <= {("x32 read", 0x4000_0000)}
