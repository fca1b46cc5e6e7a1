"""Messages between the worker and its decode processes, and what is none."""

import json

import pytest

from worker.audio.protocol import (
    MAX_MESSAGE_BYTES,
    Again,
    Done,
    Failed,
    GiveUp,
    GoOn,
    Message,
    Misbehaved,
    Part,
    Piece,
    Ready,
    Render,
    Rendered,
    Request,
    decode,
    encode,
)

MESSAGES: list[Message] = [
    Request(size=1, sample_rate_hz=16_000, max_audio_seconds=0.5, channel="each", channels=2),
    Render(what="preview", num_samples=10**9, lanes=9, sample_rate_hz=16_000),
    Piece(),
    Rendered(num_bytes=10**9),
    Ready(refused="seccomp: [Errno 38] …"),
    Part(expected_samples=10**9),
    GoOn(),
    GiveUp(),
    Again(channels=2),
    Done(num_samples=0, lanes=1, warnings="truncated,damaged", damaged_packets=3),
    Failed(code="not_audio", message="\x1b" * 500),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_arrive_as_they_were_sent(message: Message) -> None:
    """Each comes back equal, from a packet that is not cut."""
    packet = encode(message)
    assert len(packet) <= MAX_MESSAGE_BYTES
    assert decode(packet) == message


@pytest.mark.parametrize(
    "packet",
    [
        b"\xff\xfe",
        b"[" * MAX_MESSAGE_BYTES,
        b"null",
        b'["Done"]',
        b'{"Done": 1, "Part": 2}',
        b'[["Done"], {}]',
        b'["Nothing", {}]',
        b'["Done", []]',
        b'["Done", {}]',
        b'["GoOn", {"more": 1}]',
        b'["Part", {"expected_samples": 1}]',
        b'["Done", {"num_samples": 1, "lanes": 1, "warnings": "", "damaged_packets": 0}]',
        b'["Part", {"expected_samples": NaN}]',
        b'["Part", {"expected_samples": 1e300}]',
        b'["Part", {"expected_samples": -1}]',
        b'["Part", {"expected_samples": true}]',
        b'["Part", {"expected_samples": "1"}]',
        b'["Part", {"expected_samples": ' + b"9" * 5_000 + b"}]",
        b'["Done", {"num_samples": 1, "lanes": 1, "warnings": 0, "damaged_packets": 0}]',
        b'["Failed", {"code": ["not_audio"], "message": ""}]',
        encode(Failed("not_audio", "x" * MAX_MESSAGE_BYTES))[:MAX_MESSAGE_BYTES],
    ],
    ids=lambda packet: packet[:50].decode(errors="replace"),
)
def test_anything_else_is_refused(packet: bytes) -> None:
    """Whatever a hostile process sends is a message of ours with fields of our types, or none."""
    with pytest.raises(Misbehaved):
        decode(packet)


def test_every_message_is_tested() -> None:
    """A kind that is added is added above."""
    assert {json.loads(encode(message))[0] for message in MESSAGES} == {
        kind.__name__ for kind in Message.__args__
    }
