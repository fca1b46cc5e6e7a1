"""Which parts of a recording a job asks for, and how finely it wants them told."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from storage.errors import InvalidJob
from storage.wire.channels import EACH, MIX, MOST_CHANNELS

SPEECH = "speech"
MOST_SEGMENTS = 10_000
MOST_SEGMENTS_BYTES = 2 * 1024**2  # of a list in an object
SHORTEST_HOP_SECONDS, LONGEST_HOP_SECONDS = 0.1, 30.0
_LONGEST_SPEAKER = 200  # characters
_LONGEST_LABELS = 2_000

FIELDS = ("channel", "segments", "segments_from", "hop_s", "labels")


@checked_dataclass(
    frozen=True, slots=True, config=ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)
)
class SegmentAsked:
    """Seconds [start, end) of a recording; `channel` is counted from 0, None is that of the job."""

    start_s: Annotated[float, Field(ge=0)]
    end_s: float
    speaker: Annotated[str, Field(max_length=_LONGEST_SPEAKER)] | None = None
    channel: Annotated[int, Field(ge=0, lt=MOST_CHANNELS)] | None = None


_SEGMENTS = TypeAdapter(Annotated[tuple[SegmentAsked, ...], Field(max_length=MOST_SEGMENTS)])


@dataclass(frozen=True, slots=True)
class Parts:
    """What is classified of a recording.

    `channel` is `mix`, `each` or a number. `segments` are those of a list, which may lie in the
    object `segments_from` instead; with `speech`, they are found. `hop_s` is the length of the
    timeline's items in seconds, and `labels`, where there are any, those that count.
    """

    channel: str = MIX
    segments: tuple[SegmentAsked, ...] | None = None
    segments_from: str | None = None
    speech: bool = False
    hop_s: float | None = None
    labels: tuple[str, ...] = ()

    @property
    def segmented(self) -> bool:
        """Whether segments are asked for, found or listed."""
        return self.speech or self.segments is not None or self.segments_from is not None

    @property
    def channels(self) -> str:
        """What has to be decoded: `mix`, one channel's number, or `each` and the mix."""
        if not self.segments:
            return self.channel
        own = {one.channel for one in self.segments if one.channel is not None}
        return self.channel if {str(channel) for channel in own} <= {self.channel} else EACH

    def fields(self) -> dict[str, str]:
        """The job fields that `parse_parts` turns into these again."""
        listed = None if self.segments is None else segments_json(self.segments)
        told = {
            "channel": None if self.channel == MIX else self.channel,
            "segments": SPEECH if self.speech else listed,
            "segments_from": self.segments_from,
            "hop_s": None if self.hop_s is None else repr(self.hop_s),
            "labels": ",".join(self.labels) or None,
        }
        return {name: value for name, value in told.items() if value is not None}


WHOLE = Parts()


def parse_parts(fields: Mapping[str, str | None]) -> Parts:
    """The parts that job fields ask for. Raises InvalidJob, naming the field."""
    if not any(fields.values()):
        return WHOLE
    channel = fields.get("channel") or MIX
    if channel not in (MIX, EACH, *map(str, range(MOST_CHANNELS))):
        raise InvalidJob(
            f"field 'channel': {channel[:40]!r} is not {MIX}, {EACH} or a number from 0 to "
            f"{MOST_CHANNELS - 1}"
        )
    listed = fields.get("segments") or None
    segments_from = fields.get("segments_from") or None
    if listed and segments_from:
        raise InvalidJob("fields 'segments' and 'segments_from': give one of them")
    speech = listed == SPEECH
    return Parts(
        channel=channel,
        segments=_listed(listed) if listed and not speech else None,
        segments_from=segments_from,
        speech=speech,
        hop_s=_hop(fields.get("hop_s") or None),
        labels=_labels(fields.get("labels") or ""),
    )


def _listed(text: str) -> tuple[SegmentAsked, ...]:
    """What `segments` says where it does not say `speech`. Raises InvalidJob."""
    if not text.lstrip().startswith("["):
        raise InvalidJob(
            f"field 'segments': {text[:40]!r} is neither {SPEECH} nor a JSON list of "
            '{"start_s": 1.5, "end_s": 3}'
        )
    return parse_segments(text)


def parse_segments(
    text: str | bytes, *, about: str = "field 'segments'"
) -> tuple[SegmentAsked, ...]:
    """A JSON list of segments, in the order they are listed.

    Raises InvalidJob, naming the item; its message begins with `about`.
    """
    try:
        segments = _SEGMENTS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ", ".join(
            f"item {step}" if isinstance(step, int) else repr(step) for step in first["loc"]
        )
        said = first["msg"][:200]
        if not where and first["type"] == "too_long":
            said = f"more than {MOST_SEGMENTS} segments: send them in several jobs"
        raise InvalidJob(
            f"{about}: {where + ': ' if where else ''}{said}; it is a JSON list of "
            '{"start_s": 1.5, "end_s": 3} with an optional speaker and channel'
        ) from None
    for number, one in enumerate(segments):
        if one.end_s <= one.start_s:
            raise InvalidJob(
                f"{about}: item {number}: it ends at {one.end_s:g} s, which is not after its start "
                f"at {one.start_s:g} s"
            )
    return segments


def segments_json(segments: tuple[SegmentAsked, ...]) -> str:
    """The JSON list that `parse_segments` turns into these again."""
    return _SEGMENTS.dump_json(segments, exclude_none=True).decode()


def _hop(text: str | None) -> float | None:
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,17})?", text):
        hop = float(text)
        if SHORTEST_HOP_SECONDS <= hop <= LONGEST_HOP_SECONDS:
            return hop
    raise InvalidJob(
        f"field 'hop_s': {text[:40]!r} is not a number from {SHORTEST_HOP_SECONDS} to "
        f"{LONGEST_HOP_SECONDS:g}"
    )


def _labels(text: str) -> tuple[str, ...]:
    """Which labels there are, the model knows."""
    if len(text) > _LONGEST_LABELS:
        raise InvalidJob(f"field 'labels': longer than {_LONGEST_LABELS} characters")
    return tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
