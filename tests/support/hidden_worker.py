"""A worker's part in decoding, as another user: `python -m tests.support.hidden_worker CHILD…`.

Prints, as JSON, what its decode processes could do, and what it still can do itself.
"""

import errno
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from storage.errors import Internal
from storage.objects.blob import Blob
from storage.objects.directory import DirectoryStore
from storage.wire.messages import RENDERED
from tests.support.audio_files import ample_limits, mp3
from tests.support.blobs import contents
from worker.audio import process
from worker.audio.commandline import decode_isolated
from worker.audio.confinement import hide_memory
from worker.audio.limits import AudioLimits
from worker.audio.process import DecodeProcess
from worker.audio.room import Spool
from worker.clip import Renditions


def main(children: list[str]) -> None:
    """Try it all."""
    hide_memory()
    with tempfile.TemporaryDirectory() as directory:
        limits = ample_limits(Path(directory))
        spool = Spool(limits.spool_dir, limits.spool_bytes)
        Path(directory, "a.mp3").write_bytes(mp3(40))
        with running(limits, process._PROGRAM) as honest:
            stored = DirectoryStore(Path(directory)).fetch("a.mp3", max_bytes=1 << 20)
            made = Renditions(RENDERED)
            (decoded,) = honest.decode(stored, spool, renditions=made)
            with on_their_way(40):
                (crowded,) = honest.decode(stored, spool)
            (isolated,) = decode_isolated(Blob.from_bytes(contents(stored)), limits)
            found: dict[str, object] = {
                "user": os.geteuid(),
                "capabilities": _status("self", "CapEff"),
                "decoded_seconds": round(decoded.duration_seconds),
                "crowded_seconds": round(crowded.duration_seconds),
                "isolated_seconds": round(isolated.duration_seconds),
                "rendered": bool(made.peaks) and made.preview_bytes == len(made.preview) > 0,
                "oom_score_adj": int(Path(f"/proc/{honest.pid}/oom_score_adj").read_text()),
                "no_new_privs": _status(honest.pid, "NoNewPrivs"),
                "seccomp": _status(honest.pid, "Seccomp"),
                "looked into": _opened(f"/proc/{honest.pid}/mem"),
            }
        for child in children:
            with running(limits, child) as hostile:
                found[child] = {"refused": hostile.refused, **attempts(hostile, spool)}
    print(json.dumps(found))


@contextmanager
def running(limits: AudioLimits, program: str) -> Iterator[DecodeProcess]:
    """A decode process, or what has taken its place."""
    with patch.object(process, "_PROGRAM", program):
        started = DecodeProcess(limits)
    started.wait_until_ready()
    yield started
    started.kill()


@contextmanager
def on_their_way(descriptors: int) -> Iterator[None]:
    """So many descriptors of this user that were sent, and not received."""
    sending, receiving = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with sending, receiving:
        for _ in range(descriptors):
            socket.send_fds(sending, [b"one"], [0])
        yield


def attempts(hostile: DecodeProcess, spool: Spool) -> dict[str, str]:
    """How each thing that it tries ends."""
    try:
        hostile.decode(Blob.from_bytes(b"try"), spool)
    except Internal as error:
        said: dict[str, str] = json.loads(str(error))
        return said
    raise AssertionError("it said nothing of what it tried")


def _opened(path: str) -> str:
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def _status(pid: int | str, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")), 16)


if __name__ == "__main__":
    main(sys.argv[1:])
