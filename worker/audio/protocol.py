"""What the worker and a decode process say to each other: one JSON object a packet.

The socket is of type SOCK_SEQPACKET, so a packet is a message. `Request` carries the descriptor of
the encoded bytes and that of memory for samples, `Render` that of samples and that of memory for
what is made of them, `GoOn` that of more; the process sends none. Free of numpy: decode processes
import it.
"""

import json
from dataclasses import dataclass, fields
from typing import get_args

MAX_MESSAGE_BYTES = 8_192


class Misbehaved(Exception):
    """The other side said or sent what it must not: whoever does that is no longer trusted."""


@dataclass(frozen=True, slots=True)
class Request:
    """Decode the `size` bytes behind the first descriptor, into the second."""

    size: int
    sample_rate_hz: int
    max_audio_seconds: float
    channel: str  # and `channels`: see `Lanes`
    channels: int
    own_rate: bool = False  # leave it at its own rate, where a device resamples that


@dataclass(frozen=True, slots=True)
class Render:
    """Make `what`, peaks or a preview, of the samples behind the first descriptor, in the second.

    They are float32 (num_samples / lanes, lanes).
    """

    what: str
    num_samples: int
    lanes: int
    sample_rate_hz: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The process is up; sent once. `refused` is what the kernel did not let it give up."""

    refused: str


@dataclass(frozen=True, slots=True)
class Part:
    """As many samples as one memory takes, and more to come: about `expected_samples` in all.

    At the rate that was asked for, float32, unless it has one of its own: see `Form`. The process
    waits for `GoOn` or `GiveUp`.
    """

    expected_samples: int
    own_rate_hz: int = 0
    sample_bytes: int = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """As much of what is rendered as one memory takes, and more to come. Waits as after `Part`."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The memory holds the last `num_bytes` of what was to be rendered."""

    num_bytes: int


@dataclass(frozen=True, slots=True)
class GoOn:
    """The part was taken; its descriptor is that of memory for the next."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """There is no place for the part now: answer with `Failed`."""


@dataclass(frozen=True, slots=True)
class Again:
    """There are more channels than the file began with: all of it has to be decoded anew.

    Or 0, where not all of it is in one form, and so none of it can keep its own rate.
    """

    channels: int


@dataclass(frozen=True, slots=True)
class Done:
    """The memory holds the last `num_samples`; all of them are (samples, lanes), as in `Part`."""

    num_samples: int
    lanes: int
    warnings: str  # as the wire contract has them, comma-separated
    damaged_packets: int
    own_rate_hz: int = 0
    sample_bytes: int = 4


@dataclass(frozen=True, slots=True)
class Failed:
    """A `JobError` by its code."""

    code: str
    message: str


Order = Request | Render
Message = Order | Ready | Part | Piece | GoOn | GiveUp | Again | Done | Rendered | Failed
_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(Message)}
# Looked up once: both sides do this for each file.
_FIELDS = {
    kind: tuple((field.name, field.type) for field in fields(kind)) for kind in _KINDS.values()
}


def encode(message: Message) -> bytes:
    """A message as one packet."""
    kind = type(message)
    given = {name: getattr(message, name) for name, _ in _FIELDS[kind]}
    return json.dumps([kind.__name__, given]).encode()


def decode(packet: bytes) -> Message:
    """The message in a packet, its fields of the types they must have. Raises Misbehaved."""
    try:
        kind, given = json.loads(packet)
        message = _KINDS[kind](**given)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Misbehaved(f"it sent what is no message: {error!r:.100}") from error
    for name, its_type in _FIELDS[type(message)]:
        value = given.get(name)  # all are sent, those with a default too
        if type(value) is not its_type or (its_type is int and value < 0):
            raise Misbehaved(f"it sent a {kind} with {name} = {value!r:.100}")
    return message
