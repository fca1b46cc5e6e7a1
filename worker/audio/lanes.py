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
            if channels > 1:
                require_channel(self._asked, channels)
            return [None if channels == 1 else int(self._asked)]
        if channels > MOST_CHANNELS:
            raise InvalidJob(
                f"field 'channel': the file has {channels} channels, and no more than "
                f"{MOST_CHANNELS} can be told apart: ask for mix, or for one channel"
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
        if self._asked not in (MIX, EACH):
            require_channel(self._asked, self._channels)


def require_channel(asked: str | int, channels: int, about: str = "field 'channel'") -> None:
    """Raise InvalidJob where a file has no such channel; `about` is what asks for it."""
    if int(asked) >= channels:
        has = "1 channel" if channels == 1 else f"{channels} channels"
        raise InvalidJob(f"{about}: the file has {has}, counted from 0, and so no channel {asked}")
