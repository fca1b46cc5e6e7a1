"""What to doubt of a file that was decoded. Free of numpy: decode processes import it."""

from collections.abc import Iterable
from enum import StrEnum


class AudioWarning(StrEnum):
    """One reason to doubt a result, by its name in the wire contract, in the order of telling."""

    TRUNCATED = "truncated"  # the file ends before the end that its header promises
    DAMAGED = "damaged"  # audio is missing in the middle: it did not decode, or was not there
    TRAILING_DATA = "trailing_data"  # there is audio behind the declared end, left out


def in_order(found: Iterable[AudioWarning]) -> tuple[AudioWarning, ...]:
    """Each of them once, in the order of telling."""
    given = set(found)
    return tuple(warning for warning in AudioWarning if warning in given)
