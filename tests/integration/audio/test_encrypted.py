"""Encrypted audio is refused by that name, whoever decodes it: as sound it would be noise."""

import struct
from collections.abc import Callable
from functools import partial

import pytest

from storage.errors import NotAudio
from storage.objects.blob import Blob
from tests.support.audio_files import ample_limits, encode, m4a, tone, wma
from worker.audio.commandline import decode_isolated
from worker.audio.libav import Decoder

CONTENT_ENCRYPTION = {
    "content": "fbb3112223bdd211b4b700a0c955fc6e",
    "extended": "14e698292226174cb935dae07ee9289c",
    "advanced": "338505438169e6499b74ad12cb86d58c",
}


def common_encryption(codec: str) -> bytes:
    """Encrypted as streaming services do."""
    return encode(
        tone(1.0, 44_100),
        44_100,
        container="mov" if codec.startswith("pcm") else "mp4",
        codec=codec,
        container_options={
            "encryption_scheme": "cenc-aes-ctr",
            "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
            "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        },
    )


def protected_wma(kind: str) -> bytes:
    """A WMA file with one more object in its header."""
    data = wma(1.0)
    texts = b"".join(
        struct.pack("<I", len(text)) + text for text in (b"x", b"DRM\0", b"k\0", b"u\0")
    )
    told = bytes.fromhex(CONTENT_ENCRYPTION[kind]) + struct.pack("<Q", 24 + len(texts)) + texts
    length, objects = struct.unpack_from("<QI", data, 16)
    head = data[:16] + struct.pack("<QI", length + len(told), objects + 1) + data[28:30]
    return head + told + data[30:]


def encrypted_webm() -> bytes:
    """A track whose name, which is of no use, has become its encryption."""
    name = "x" * 60
    data = encode(tone(1.0, 48_000), 48_000, container="webm", codec="libopus", title=name)
    at = data.index(b"\x53\x6e" + bytes([0x80 | len(name)]) + name.encode())
    key = b"\x47\xe2\x90" + bytes(range(16))
    encryption = b"\x47\xe1\x81\x05" + key
    encryption = b"\x50\x35" + bytes([0x80 | len(encryption)]) + encryption
    encoding = b"\x50\x33\x81\x01" + encryption  # of this type
    encoding = b"\x62\x40" + bytes([0x80 | len(encoding)]) + encoding
    encodings = b"\x6d\x80" + bytes([0x80 | len(encoding)]) + encoding
    rest = 3 + len(name) - len(encodings)
    filling = b"\xec" + bytes([0x80 | rest - 2]) + bytes(rest - 2)
    return data[:at] + encodings + filling + data[at + 3 + len(name) :]


ENCRYPTED: dict[str, Callable[[], bytes]] = {
    **{
        f"{codec} in mp4": partial(common_encryption, codec)
        for codec in ("aac", "alac", "libmp3lame", "flac", "pcm_s16le")
    },
    "iTunes": lambda: m4a(1.0).replace(b"mp4a", b"drms", 1),
    "Audible": lambda: m4a(1.0, index_first=True).replace(b"mp4a", b"aavd", 1),
    **{f"{kind} object in asf": partial(protected_wma, kind) for kind in CONTENT_ENCRYPTION},
    "webm": encrypted_webm,
}


@pytest.fixture(params=["libraries", "command line"])
def decode(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bytes], object]:
    """Both ways to decode."""
    if request.param == "command line":
        limits = ample_limits(tmp_path_factory.mktemp("spool"))
        return lambda data: decode_isolated(Blob.from_bytes(data), limits)

    def by_libraries(data: bytes) -> object:
        with Blob.from_bytes(data) as blob:
            return list(Decoder(blob.fd, blob.size, sample_rate_hz=16_000).chunks())

    return by_libraries


@pytest.mark.parametrize("name", ENCRYPTED)
def test_encrypted_audio_is_refused(name: str, decode: Callable[[bytes], object]) -> None:
    """At once, and with what it is."""
    with pytest.raises(NotAudio, match="encrypted \\(DRM\\)"):
        decode(ENCRYPTED[name]())


def test_words_that_look_like_a_mark_are_none(decode: Callable[[bytes], object]) -> None:
    """A title may have the letters."""
    title = "La vencanza drms aavd enca"
    data = encode(tone(1.0, 44_100), 44_100, container="mp4", codec="aac", title=title)
    assert title.encode() in data
    assert decode(data)
