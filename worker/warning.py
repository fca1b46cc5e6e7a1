"""What to doubt of a result. Free of numpy: decode processes import it."""

from collections.abc import Iterable
from enum import StrEnum


class AudioWarning(StrEnum):
    """One reason to doubt a result, by its name in the wire contract, in the order of telling."""

    TRUNCATED = "truncated"  # the file ends before the end that its header promises
    DAMAGED = "damaged"  # audio is missing in the middle: it did not decode, or was not there
    TRAILING_DATA = "trailing_data"  # there is audio behind the declared end, left out
    SILENT = "silent"  # no sample is above -70 dBFS
    NO_SPEECH = "no_speech"  # speech was looked for, and none was found
    UNTRAINED_MODEL = "untrained_model"  # random weights


# What is seen of a file while it is decoded.
OF_FILES = (AudioWarning.TRUNCATED, AudioWarning.DAMAGED, AudioWarning.TRAILING_DATA)


def in_order(found: Iterable[AudioWarning]) -> tuple[AudioWarning, ...]:
    """Each of them once, in the order of telling."""
    given = set(found)
    return tuple(warning for warning in AudioWarning if warning in given)


def as_told(found: Iterable[AudioWarning]) -> str:
    """Each of them once, as a result tells them."""
    return ",".join(in_order(found))
