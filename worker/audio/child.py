"""A decode process: `python -m worker.audio.child SOCKET PARENT_PID MEMORY_BYTES PART_BYTES`.

It imports neither numpy nor torch, and ends when its parent does. One request at a time; a file
that makes it crash or hang costs that file only. Before the first it gives up all that decoding
does not need.
"""

import os
import resource
import socket
import sys
import wave
from collections.abc import Callable
from typing import Self

from storage.errors import DecodeCrashed, Internal, JobError, SpoolUnavailable
from worker.audio.confinement import confine, die_with
from worker.audio.lanes import MoreChannels
from worker.audio.libav import Decoder, OtherForm
from worker.audio.limits import too_long
from worker.audio.pcm import SAMPLE_BYTES, PartWriter
from worker.audio.protocol import (
    MAX_MESSAGE_BYTES,
    Again,
    Done,
    Failed,
    GoOn,
    Message,
    Order,
    Part,
    Piece,
    Ready,
    Render,
    Rendered,
    Request,
    decode,
    encode,
)
from worker.audio.rates import Form
from worker.audio.rendering import PEAKS, PREVIEW, rendered

_LEAST_PART_BYTES = 1_600  # a quarter of the silence, so that it takes parts
_MOST_CHARACTERS = 500  # of an error; what a file says of itself may be long


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes its end."""
    socket_fd, parent_pid, memory_bytes, part_bytes = map(int, arguments)
    with socket.socket(fileno=socket_fd) as connection:
        refused = prepare(parent_pid, memory_bytes, part_bytes)
        _send(connection, Ready(refused))
        while True:
            packet, fds = _receive(connection)
            if not packet:
                return
            order = decode(packet)
            assert isinstance(order, Order)
            _answer(connection, fds, order, memory_bytes, part_bytes)


def prepare(parent_pid: int, memory_bytes: int, part_bytes: int) -> str:
    """Import all that will be needed, then be confined; returns what the kernel refused, or ""."""
    die_with(parent_pid)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    silence, memory = _silence(), os.memfd_create("pcm")
    _warm_up(silence, memory)
    refused = confine(part_bytes)
    _warm_up(silence, memory)  # where the filter lacks what this system needs, no file finds out
    os.close(silence)
    os.close(memory)
    return refused


def _answer(
    connection: socket.socket,
    fds: list[int],
    order: Order,
    memory_bytes: int,
    part_bytes: int,
) -> None:
    """Do one order into memory, and say what came of it; closes both descriptors."""
    fd, memory = fds
    try:
        if isinstance(order, Render):
            _render(connection, fd, memory, order, part_bytes)
        else:
            _decode(connection, fd, memory, order, part_bytes)
    except MoreChannels as more:
        _send(connection, Again(more.channels))
    except OtherForm:
        _send(connection, Again(0))
    except JobError as error:
        _send(connection, Failed(error.code, str(error)[:_MOST_CHARACTERS]))
    except MemoryError:
        limit = DecodeCrashed(
            f"decoding needs more than {memory_bytes} bytes of memory: convert the file to WAV, or "
            "raise EMO_DECODE_MEMORY_BYTES"
        )
        _send(connection, Failed(limit.code, str(limit)))
    except Exception as error:
        text = f"the decoder failed: {error!r}"[:_MOST_CHARACTERS]
        _send(connection, Failed(Internal.code, text))
    finally:
        os.close(fd)


def _decode(
    connection: socket.socket, fd: int, memory: int, request: Request, part_bytes: int
) -> None:
    """Decode one file into memory, and into more as that is full.

    Raises JobError, MoreChannels, OtherForm, MemoryError.
    """
    rate_hz = request.sample_rate_hz
    decoder = Decoder(
        fd,
        request.size,
        sample_rate_hz=rate_hz,
        channel=request.channel,
        channels=request.channels,
        own_rate=request.own_rate,
    )
    most_samples = int(request.max_audio_seconds * rate_hz)

    def part() -> Part:
        form = decoder.form
        expected_samples = int(pcm.num_bytes / form.sample_bytes / decoder.share_read)
        return Part(expected_samples, _own_rate(form, rate_hz), form.sample_bytes)

    def memory_bytes() -> int:
        form = decoder.form
        return form.sample_bytes * form.part_samples(part_bytes // SAMPLE_BYTES, rate_hz)

    with _Parts(connection, memory, part) as parts:
        pcm = PartWriter(memory_bytes, memory, parts.hand_over)
        for chunk in decoder.chunks():
            form, lanes = decoder.form, decoder.lanes.count
            most_bytes = form.within(most_samples, rate_hz) * form.sample_bytes * lanes
            if pcm.num_bytes + len(chunk) > most_bytes:
                raise too_long(request.max_audio_seconds)
            pcm.write(chunk)
        form = decoder.form
        _send(
            connection,
            Done(
                pcm.finish() // form.sample_bytes,
                decoder.lanes.count,
                ",".join(decoder.warnings),
                decoder.damaged_packets,
                _own_rate(form, rate_hz),
                form.sample_bytes,
            ),
        )


def _own_rate(form: Form, asked_hz: int) -> int:
    """As it is told: 0 for the rate that was asked for."""
    return 0 if form.sample_rate_hz == asked_hz else form.sample_rate_hz


def _render(
    connection: socket.socket, fd: int, memory: int, order: Render, part_bytes: int
) -> None:
    """Make peaks or a preview of samples, into memory, and into more as that is full.

    Raises SpoolUnavailable, MemoryError.
    """
    with _Parts(connection, memory, Piece) as parts:
        writer = PartWriter(part_bytes, memory, parts.hand_over)
        for piece in rendered(fd, order):
            writer.write(piece)
        _send(connection, Rendered(writer.finish()))


class _Parts:
    """The memory that is filled now: each that is full is handed over, the last one closed."""

    def __init__(self, connection: socket.socket, memory: int, full: Callable[[], Message]) -> None:
        """`full` is what is said of one."""
        self._connection = connection
        self._memory = memory
        self._full = full

    def hand_over(self) -> int:
        """Another for one that is full. Raises SpoolUnavailable."""
        _send(self._connection, self._full())
        packet, fds = _receive(self._connection)
        if not packet or not isinstance(decode(packet), GoOn):
            raise SpoolUnavailable("there is no room for so much audio now")
        os.close(self._memory)
        (self._memory,) = fds
        return self._memory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        os.close(self._memory)


def _silence() -> int:
    """A file of a tenth of a second."""
    fd = os.memfd_create("silence")
    with os.fdopen(fd, "w+b", closefd=False) as file, wave.open(file, "wb") as silence:
        silence.setparams((2, 2, 8_000, 800, "NONE", ""))
        silence.writeframes(bytes(2 * 2 * 800))
    return fd


def _warm_up(silence: int, memory: int) -> None:
    """Decode a little silence: a process that cannot do that must not be given files."""
    pcm = PartWriter(_LEAST_PART_BYTES, memory, lambda: memory)
    for chunk in Decoder(silence, os.fstat(silence).st_size, sample_rate_hz=16_000).chunks():
        pcm.write(chunk)
    pcm.finish()
    for what in (PEAKS, PREVIEW):
        for _ in rendered(memory, Render(what, pcm.num_bytes // SAMPLE_BYTES, 1, 16_000)):
            pass


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """A packet and the descriptors that came with it; b"" where the worker is gone."""
    packet, fds, _, _ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
    return packet, fds


def _send(connection: socket.socket, message: Message) -> None:
    os.write(connection.fileno(), encode(message))  # the filter knows no other way


if __name__ == "__main__":
    main(sys.argv[1:])
