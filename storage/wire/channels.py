"""How a job calls the channels of a recording. Imports nothing: decode processes read it."""

MIX = "mix"
EACH = "each"  # the mix, and every channel by itself
MOST_CHANNELS = 8  # counted from 0
