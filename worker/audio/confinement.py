"""What a process gives up before it reads hostile bytes; and that it ends with its parent.

Free of numpy: decode processes import it.
"""

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from worker.audio.seccomp import allow_decoding_alone

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_FIRST_TO_BE_KILLED = "1000"  # where memory is short: before the worker, whose jobs are many
_MOST_DESCRIPTORS = 16
_LEAST_FILE_BYTES = 64 * 1024


def die_with(parent_pid: int) -> None:
    """Be killed when the thread that started this process ends, even if stopped or hung."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        sys.exit(1)


def hide_memory() -> None:
    """Let no other process of this user read our memory or environment. Raises OSError.

    Debuggers need root then, and nothing is dumped when it crashes. A program that is started from
    here is not hidden.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot be hidden")


def confine(file_bytes: int) -> str:
    """Give up, for good, all that decoding does not need; returns what the kernel refused, or "".

    Files in memory can then be up to `file_bytes` long. Whatever is still to be imported or opened
    must be before.
    """

    def limit() -> None:
        most_bytes = max(file_bytes, _LEAST_FILE_BYTES)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_MOST_DESCRIPTORS, _MOST_DESCRIPTORS))

    refused = []
    # In this order: once it is hidden, its files in /proc are root's.
    steps: dict[str, Callable[[], None]] = {
        "oom_score_adj": _be_killed_first,
        "dumpable": hide_memory,
        "limits": limit,
        "seccomp": allow_decoding_alone,
    }
    for name, step in steps.items():
        try:
            step()
        except (OSError, ValueError) as error:
            refused.append(f"{name}: {error}")
    return "; ".join(refused)


def _be_killed_first() -> None:
    Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_BE_KILLED, encoding="ascii")
