"""A filter of system calls that a process lays on itself, for good, without a privilege.

What decoding needs is allowed, and nothing else: no file can be opened, no memory or socket made,
no descriptor sent, no process or thread started, signalled or looked into. Everything else is as if
the kernel did not have it (ENOSYS), so that a C library that tries something new goes back to
something old.
"""

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Mapping
from typing import NamedTuple

_SET_MODE_FILTER = 1
_ALL_THREADS = 1  # SECCOMP_FILTER_FLAG_TSYNC
# Before Linux 5.16 a filter would also slow loads down, against one that reads its own memory.
_FULL_SPEED = 4  # SECCOMP_FILTER_FLAG_SPEC_ALLOW
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_NAME = 15

# Classic BPF: `LOAD` a word of the call, jump by it, `RETURN`. Source: linux/filter.h, seccomp.h.
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS, _ARGUMENT_BYTES = 0, 4, 16, 8
_ALLOW, _KILL, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000

# What decoding needs, by its numbers on x86-64 and arm64. Source: asm/unistd_64.h,
# asm-generic/unistd.h.
CALLS: Mapping[str, tuple[int, int | None]] = {
    "brk": (12, 214),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "fcntl": (72, 25),
    "fstat": (5, 80),
    "futex": (202, 98),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "lseek": (8, 62),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "nanosleep": (35, 101),
    "newfstatat": (262, 79),
    "prctl": (157, 167),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "read": (0, 63),
    "readv": (19, 65),
    "recvmsg": (47, 212),
    "restart_syscall": (219, 128),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sched_yield": (24, 124),
    "sigaltstack": (131, 132),
    "tgkill": (234, 131),
    "time": (201, None),
    "write": (1, 64),
    "writev": (20, 66),
}
# By F_SETOWN and F_SETSIG, fcntl sends signals to others.
_FCNTL = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL)


class Machine(NamedTuple):
    """How the kernel calls an architecture, its column in CALLS, and its call for filters."""

    architecture: int
    column: int
    seccomp: int


MACHINES = {"x86_64": Machine(0xC000_003E, 0, 317), "aarch64": Machine(0xC000_00B7, 1, 277)}


def allow_decoding_alone() -> None:
    """From here on, allow this process what decoding needs. Raises OSError where refused."""
    machine = MACHINES.get(os.uname().machine)
    if machine is None:
        raise OSError(errno.ENOSYS, f"there is no filter for {os.uname().machine}")
    code = program(machine, os.getpid())
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    for flags in (_ALL_THREADS | _FULL_SPEED, _ALL_THREADS):
        if not libc.syscall(machine.seccomp, _SET_MODE_FILTER, flags, filter_):
            return
    raise OSError(ctypes.get_errno(), "seccomp")


def program(machine: Machine, pid: int) -> bytes:
    """The filter for process `pid`, in the kernel's own form."""
    # Of these one argument decides: which it is, and what it may be.
    checked = {"fcntl": (1, _FCNTL), "prctl": (0, (_PR_SET_NAME,)), "tgkill": (0, (pid,))}
    numbers = {name: row[machine.column] for name, row in CALLS.items()}
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_IF_EQUAL, 1, 0, machine.architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    for name, number in numbers.items():
        if name not in checked and number is not None:
            code += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for name, (argument, values) in checked.items():
        check = [(_LOAD, 0, 0, _ARGUMENTS + argument * _ARGUMENT_BYTES)]
        for value in values:
            check += [(_JUMP_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        check.append((_RETURN, 0, 0, _ERRNO | errno.EPERM))
        number = numbers[name]
        assert number is not None
        code += [(_JUMP_IF_EQUAL, 0, len(check), number), *check]
    code.append((_RETURN, 0, 0, _ERRNO | errno.ENOSYS))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
