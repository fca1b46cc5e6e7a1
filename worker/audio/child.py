"""A decode process: `python -m worker.audio.child SOCKET PARENT_PID MEMORY_BYTES`.

It imports neither numpy nor torch, and ends when its parent does. One request at a time; a file
that makes it crash or hang costs that file only.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
import wave

from storage.errors import DecodeCrashed, Internal, JobError, SpoolUnavailable
from worker.audio.libav import Decoder
from worker.audio.limits import too_long
from worker.audio.protocol import (
    MAX_MESSAGE_BYTES,
    Ask,
    Done,
    Failed,
    Message,
    Progress,
    Ready,
    Request,
    Room,
    decode,
    encode,
)
from worker.audio.spool import PcmWriter, Place

_PR_SET_PDEATHSIG = 1
_PROGRESS_SECONDS = 60  # of decoded audio; earns 6 s of time


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes its end."""
    socket_fd, parent_pid, memory_bytes = map(int, arguments)
    _die_with(parent_pid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _warm_up()
    with socket.socket(fileno=socket_fd) as connection:
        _send(connection, Ready())
        while True:
            packet, fds, _, _ = socket.recv_fds(
                connection, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC
            )
            if not packet:
                return
            request = decode(packet)
            assert isinstance(request, Request)
            _answer(connection, fds[0], request, memory_bytes)


def _answer(connection: socket.socket, fd: int, request: Request, memory_bytes: int) -> None:
    """Decode one file and say what came of it."""
    try:
        _decode(connection, fd, request)
    except JobError as error:
        _send(connection, Failed(error.code, str(error)))
    except MemoryError:
        limit = DecodeCrashed(
            f"decoding needs more than {memory_bytes} bytes of memory: convert the file to WAV, or "
            "raise EMO_DECODE_MEMORY_BYTES"
        )
        _send(connection, Failed(limit.code, str(limit)))
    except Exception as error:
        _send(connection, Failed(Internal.code, f"the decoder failed: {error!r}"))
    finally:
        os.close(fd)


def _decode(connection: socket.socket, fd: int, request: Request) -> None:
    """Decode one file and send its samples. Raises JobError, MemoryError."""
    decoder = Decoder(fd, request.size, sample_rate_hz=request.sample_rate_hz)
    max_samples = int(request.max_audio_seconds * request.sample_rate_hz)
    progress_samples = _PROGRESS_SECONDS * request.sample_rate_hz
    told_samples = 0

    def ask(num_samples: int) -> Place:
        return _ask(connection, num_samples, int(num_samples / decoder.share_read))

    memory_samples = int(request.memory_seconds * request.sample_rate_hz)
    with PcmWriter(memory_samples=memory_samples, ask=ask) as pcm:
        for chunk in decoder.chunks():
            pcm.write(chunk)
            if pcm.num_samples > max_samples:
                raise too_long(request.max_audio_seconds)
            if pcm.num_samples - told_samples >= progress_samples:
                told_samples = pcm.num_samples
                _send(connection, Progress(told_samples / request.sample_rate_hz))
        pcm.flush()
        _send(
            connection,
            Done(pcm.num_samples, decoder.truncated, decoder.damaged_packets),
            [pcm.fd],
        )


def _ask(connection: socket.socket, num_samples: int, expected_samples: int) -> Place:
    """Wait until the worker has room for more samples. Raises SpoolUnavailable."""
    _send(connection, Ask(num_samples, expected_samples))
    packet, fds, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    room = decode(packet) if packet else Room(0)
    assert isinstance(room, Room)
    if not room.num_samples:
        raise SpoolUnavailable("there is no room for so much audio now")
    return Place(room.num_samples, fds[0] if fds else None)


def _warm_up() -> None:
    """Decode a little silence: a process that cannot do that must not be given files."""
    with os.fdopen(os.memfd_create("silence"), "w+b") as file:
        with wave.open(file, "wb") as silence:
            silence.setparams((2, 2, 8_000, 800, "NONE", ""))
            silence.writeframes(bytes(2 * 2 * 800))
        size = file.tell()
        for _ in Decoder(file.fileno(), size, sample_rate_hz=16_000).chunks():
            pass


def _send(connection: socket.socket, message: Message, fds: list[int] | None = None) -> None:
    socket.send_fds(connection, [encode(message)], fds or [])


def _die_with(parent_pid: int) -> None:
    """Be killed when the thread that started this process ends, even if stopped or hung."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before the line above
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
