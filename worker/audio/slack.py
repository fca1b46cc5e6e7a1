"""How much less than a header promises is as good as all of it. Free of numpy."""

_SECONDS = 0.25
_RATIO = 0.01


def slack_seconds(decoded_seconds: float) -> float:
    """What may be missing, or too much, of so much audio: rounding, and what counted wrongly."""
    return max(_SECONDS, _RATIO * decoded_seconds)
