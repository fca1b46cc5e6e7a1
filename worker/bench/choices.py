"""What can be chosen of `bench`; free of what the measurements import."""

from enum import StrEnum

SHORTEST_SECONDS, LONGEST_SECONDS = 1.5, 12.0
FIVE_SECONDS = 5.0


class Part(StrEnum):
    """The network and its tapes; files to waveforms; speech in them; all, submission to result.

    And all but the network.
    """

    ENGINE = "engine"
    DECODE = "decode"
    SPEECH = "speech"
    END_TO_END = "end-to-end"
    FEED = "feed"


class Lengths(StrEnum):
    """How long the clips are: utterances of 1.5 to 12 s, uniformly drawn, or 5 s each."""

    SHORT = "short"
    FIVE = "five"

    @property
    def meaning(self) -> str:
        """The distribution in words."""
        if self is Lengths.FIVE:
            return f"{FIVE_SECONDS:g} s each"
        return f"{SHORTEST_SECONDS:g} to {LONGEST_SECONDS:g} s, uniformly drawn"


class Store(StrEnum):
    """Where objects lie: a directory, or S3 as rclone serves it."""

    DIR = "dir"
    S3 = "s3"


class Format(StrEnum):
    """Noise of 5 s as WAV; speech of 8.5 s as stereo MP3 of 44.1 kHz; or four formats in turn."""

    WAV = "wav"
    MP3 = "mp3"
    MIXED = "mixed"
