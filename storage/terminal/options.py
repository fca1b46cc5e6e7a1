"""The parts of a recording as command-line options name them."""

from dataclasses import replace
from typing import Annotated

import typer

from storage.errors import InvalidJob
from storage.wire.messages import Want
from storage.wire.parts import (
    MOST_SEGMENTS_BYTES,
    SPEECH,
    Parts,
    parse_parts,
    parse_segments,
)

ChannelOption = Annotated[
    str, typer.Option("--channel", help="mix, each (the mix and every channel), or 0 to 7.")
]
SegmentsOption = Annotated[
    str, typer.Option("--segments", help="A JSON file of segments, or speech: turns are found.")
]
HopOption = Annotated[
    float | None, typer.Option("--hop", help="Seconds of a timeline's items; gives a timeline.")
]
WantOption = Annotated[
    str,
    typer.Option(
        "--want",
        help=f"{', '.join(each for each in Want if each is not Want.SCORES)}: besides scores.",
    ),
]
LabelsOption = Annotated[str, typer.Option("--labels", help="happy,sad: only these count.")]


def parts_of(channel: str, segments: str, hop: float | None, labels: str) -> Parts:
    """The parts that options ask for; a file of segments is read. Raises InvalidJob."""
    fields = {"channel": channel, "labels": labels, "hop_s": None if hop is None else repr(hop)}
    if segments == SPEECH:
        return parse_parts({**fields, "segments": SPEECH})
    parts = parse_parts(fields)
    if not segments:
        return parts
    about = f"--segments {segments}"
    try:
        with open(segments, "rb") as file:  # a pipe will do
            text = file.read(MOST_SEGMENTS_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InvalidJob(f"{about}: {reason}; name a file with a JSON list, or {SPEECH}") from error
    if len(text) > MOST_SEGMENTS_BYTES:
        raise InvalidJob(f"{about}: the list is larger than {MOST_SEGMENTS_BYTES} bytes")
    return replace(parts, segments=parse_segments(text, about=about))
