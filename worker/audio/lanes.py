"""Which mono signals are made of the channels of a file, side by side: its lanes.

`mix` and a channel's number are one lane. `each` is the mix and every channel, or of mono audio the
mix alone, which is its one channel. Free of numpy: decode processes import it.
"""

from storage.errors import InvalidJob
from storage.wire.channels import EACH, MIX, MOST_CHANNELS

MOST_LANES = 1 + MOST_CHANNELS


class MoreChannels(Exception):
    """A file that began as mono has more channels further on: decode it anew, with so many."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.channels = channels


class Lanes:
    """What to make of the channels of one file, which may change on the way. Not thread-safe."""

    def __init__(self, asked: str, channels: int = 0) -> None:
        """`asked` is `mix`, `each` or a number; `channels` those of the file, where known."""
        self._asked = asked
        self._channels = channels

    @property
    def count(self) -> int:
        """How many there are, once it has been told of the first frame."""
        return 1 if self._asked != EACH or self._channels <= 1 else 1 + self._channels

    def of(self, channels: int) -> list[int | None]:
        """The channel of a frame that each lane takes, None for all of them mixed.

        Mono counts for every channel. Raises InvalidJob where the file lacks one, MoreChannels.
        """
        if self._asked == MIX:
            return [None]
        if self._asked != EACH:
            self._channels = max(self._channels, channels)
            if 1 < channels <= int(self._asked):
                raise self._missing()
            return [None if channels == 1 else int(self._asked)]
        if channels > MOST_CHANNELS:
            raise InvalidJob(
                f"field 'channel': the file has {channels} channels, and {EACH} gives at most "
                f"{MOST_CHANNELS}: ask for mix"
            )
        if not self._channels:
            self._channels = channels
        if channels == 1:
            return [None] * self.count
        if self._channels == 1:
            raise MoreChannels(channels)
        if channels != self._channels:
            raise InvalidJob(
                f"field 'channel': the file has {self._channels} channels and later {channels}: "
                "ask for mix, or split it"
            )
        return [None, *range(channels)]

    def end(self) -> None:
        """Nothing more comes. Raises InvalidJob where the file lacks the channel asked for."""
        if self._asked not in (MIX, EACH) and self._channels <= int(self._asked):
            raise self._missing()

    def _missing(self) -> InvalidJob:
        return missing_channel(self._asked, self._channels)


def missing_channel(channel: str | int, channels: int) -> InvalidJob:
    """The error for a channel that a file does not have."""
    has = "1 channel" if channels == 1 else f"{channels} channels"
    return InvalidJob(
        f"field 'channel': the file has {has}, counted from 0, and so no channel {channel}"
    )
