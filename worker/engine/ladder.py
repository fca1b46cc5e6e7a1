"""The lengths of tapes that a GPU has ready."""

# Slots; a clip of 5 s takes 259. A tape runs as the next longer one, whose other slots are idle: of
# the long ones there are more, since one program serves all. Windows of 30 s, which long audio is
# cut in, take 1,509: one fits 1,568, two 3,072, and ten, more than which no tape holds, 15,104.
LADDER = (
    *(128, 288, 544, 800, 1056, 1312, 1568, 2048),
    *(2560, 3072, 4096, 5120, 6144, 8192, 10240, 12288, 14336, 15104, 16384),
)


def rungs(tape_slots: int) -> list[int]:
    """The lengths to capture for tapes of up to `tape_slots` slots, shortest first."""
    return [slots for slots in LADDER if slots < tape_slots] + [tape_slots]
