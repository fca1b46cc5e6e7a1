"""The parts of a recording as command-line options name them."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from storage.errors import InvalidJob
from storage.wire.parts import SPEECH, Parts, parse_parts, parse_segments

ChannelOption = Annotated[
    str, typer.Option("--channel", help="mix, each (the mix and every channel), or 0 to 7.")
]
SegmentsOption = Annotated[
    str, typer.Option("--segments", help="A JSON file of segments, or speech: turns are found.")
]
HopOption = Annotated[
    float | None, typer.Option("--hop", help="Seconds of a timeline's items; gives a timeline.")
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
    if not os.path.isfile(segments):
        raise InvalidJob(f"--segments {segments}: is neither a file nor {SPEECH}")
    try:
        text = Path(segments).read_bytes()
    except OSError as error:
        raise InvalidJob(f"--segments {segments}: {error.strerror}") from error
    return replace(parts, segments=parse_segments(text))
