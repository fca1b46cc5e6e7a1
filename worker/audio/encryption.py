"""Audio that nobody hears without a key, by what its container says. Free of numpy.

Sources: ISO/IEC 14496-12 (MP4), Advanced Systems Format 1.2, RFC 9559 (Matroska).
"""

import os
from collections.abc import Container

from storage.errors import NotAudio
from worker.audio.extent import MP4, boxes

_KEY_OF_TRACK = "enc_key_id"  # FFmpeg's name for what Matroska states
# Kinds of sample entries: of the standard, of iTunes, and of Audible.
_MP4_ENTRIES = tuple(kind + bytes(6) for kind in (b"enca", b"drms", b"aavd"))
# Content Encryption, and its extended and advanced kinds.
_ASF_OBJECTS = (
    bytes.fromhex("fbb31122 23bd d211 b4b7 00a0c955fc6e"),
    bytes.fromhex("14e69829 2226 174c b935 dae07ee9289c"),
    bytes.fromhex("33850543 8169 e649 9b74 ad12cb86d58c"),
)
_ASF_LENGTH = slice(16, 24)
_MOST_BYTES = 16 * 1024**2  # of a header; what is told of tracks stands before what is long


def require_open(fd: int, form: str, metadata: Container[str]) -> None:
    """Raise NotAudio where a track of the container at `fd`, FFmpeg's format `form`, is encrypted.

    As sound it would be noise. `metadata` holds the names of what is said of the track.
    """
    marks = {MP4: _MP4_ENTRIES, "asf": _ASF_OBJECTS}.get(form, ())
    head = _head(fd, form) if marks else b""
    if _KEY_OF_TRACK in metadata or any(mark in head for mark in marks):
        raise NotAudio("its audio is encrypted (DRM): send a copy that is not")


def _head(fd: int, form: str) -> bytes:
    """What tells of the tracks."""
    start, end = 0, _MOST_BYTES
    if form == MP4:
        for kind, box_end in boxes(fd):
            if kind == b"moov":
                end = box_end
                break
            start = box_end
        else:
            return b""
    else:
        end = int.from_bytes(os.pread(fd, _ASF_LENGTH.stop, 0)[_ASF_LENGTH], "little")
    return os.pread(fd, min(end - start, _MOST_BYTES), start)
