"""What the worker and a decode process say to each other: one JSON object a packet.

The socket is of type SOCK_SEQPACKET, so a packet is a message. `Request` carries the descriptor of
the encoded bytes, the first `Room` that of a file for long audio, `Done` that of the samples. Free
of numpy: decode processes import it.
"""

import json
from dataclasses import asdict, dataclass

MAX_MESSAGE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """Decode the `size` bytes behind the descriptor."""

    size: int
    sample_rate_hz: int
    max_audio_seconds: float
    memory_seconds: float  # longer audio goes to a file that has to be asked for


@dataclass(frozen=True, slots=True)
class Ready:
    """The process is up; sent once."""


@dataclass(frozen=True, slots=True)
class Ask:
    """There is no room for these samples; in all there will be about `expected_samples`."""

    num_samples: int
    expected_samples: int


@dataclass(frozen=True, slots=True)
class Room:
    """There is room for so many samples in all; for 0 there is none now: give up with `Failed`."""

    num_samples: int


@dataclass(frozen=True, slots=True)
class Progress:
    """So much audio is decoded; earns the process more time."""

    decoded_seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """The descriptor holds float32 (num_samples,), mono."""

    num_samples: int
    truncated: bool
    damaged_packets: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A `JobError` by its code."""

    code: str
    message: str


Message = Request | Ready | Ask | Room | Progress | Done | Failed
_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind for kind in (Request, Ready, Ask, Room, Progress, Done, Failed)
}


def encode(message: Message) -> bytes:
    """A message as one packet."""
    return json.dumps([type(message).__name__, asdict(message)]).encode()


def decode(packet: bytes) -> Message:
    """The message in a packet."""
    kind, fields = json.loads(packet)
    return _KINDS[kind](**fields)
