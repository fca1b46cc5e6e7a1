"""What became of jobs, typed: their results, and the events of their ends.

A hash may have been written by anyone: each field is read when it is asked for, and one that cannot
be understood raises UnreadableResult, which names it; the others stay readable.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from storage.wire.messages import Status, has_ended

T = TypeVar("T")
Scores = dict[str, FiniteFloat]


class UnreadableResult(ValueError):
    """A field of a result holds what no worker writes there."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One item of a timeline, in seconds of the recording."""

    start_s: float
    end_s: float
    scores: Scores


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment, in seconds of the recording; `speaker` and `channel` as they were given."""

    start_s: float
    end_s: float
    label: str
    score: float
    scores: Scores
    speaker: str | None = None
    channel: int | str | None = None
    warning: str = ""
    timeline: tuple[Moment, ...] = ()


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel by itself."""

    channel: int
    label: str
    score: float
    scores: Scores
    warning: str = ""
    timeline: tuple[Moment, ...] = ()
    segments: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job is not done: a code of docs/wire.md, and a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """A job's hash as it was read; `fields` are all that it holds, as text.

    What is not there is None, or empty. Raises UnreadableResult where it cannot be understood.
    """

    job_id: str
    fields: Mapping[str, str]

    @property
    def status(self) -> Status:
        """Where the job is."""
        return self._as(Status, "status") or Status.QUEUED

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return has_ended(self.fields)

    @property
    def done(self) -> bool:
        """Whether there is a label."""
        return self.fields.get("status") == Status.DONE

    @property
    def run(self) -> int:
        """Which run of the job this is, from 1."""
        return self._as(int, "run") or 1

    @property
    def key(self) -> str | None:
        """The object that it is of; known once it has ended."""
        return self.fields.get("key")

    @property
    def batch(self) -> str | None:
        """The batch that it counts in."""
        return self.fields.get("batch")

    @property
    def label(self) -> str | None:
        """The most likely label."""
        return self.fields.get("label")

    @property
    def score(self) -> float | None:
        """Its probability."""
        return self._as(FiniteFloat, "score")

    @property
    def scores(self) -> Scores:
        """The probability of every label."""
        return self._json(Scores, "scores") or {}

    @property
    def duration_s(self) -> float | None:
        """Seconds of audio."""
        return self._as(FiniteFloat, "duration_s")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to doubt: see docs/wire.md."""
        return tuple(filter(None, self.fields.get("warning", "").split(",")))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Those that were asked for; empty where `segments_key` names an object with them."""
        return self._json(tuple[Segment, ...], "segments") or ()

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Each channel, with channel=each; empty where `channels_key` names an object with them."""
        return self._json(tuple[Channel, ...], "channels") or ()

    @property
    def timeline(self) -> tuple[Moment, ...]:
        """Item by item, with want=timeline; empty where `timeline_key` names an object with it."""
        return self._json(tuple[Moment, ...], "timeline") or ()

    @property
    def objects(self) -> dict[str, str]:
        """The keys of objects in the output store, by what they hold, such as `embedding`."""
        return {
            name.removesuffix("_key"): key
            for name, key in self.fields.items()
            if name.endswith("_key")
        }

    @property
    def error(self) -> Fault | None:
        """Why it is not done; of a job that is to be tried again, why its last try failed."""
        code = self.fields.get("error_code")
        return Fault(code, self.fields.get("error", "")) if code else None

    @property
    def stage_ms(self) -> dict[str, float]:
        """Milliseconds in each stage: `queue`, `fetch`, `decode`, `normalize`, `infer`."""
        return {
            name.removesuffix("_ms"): self._as(float, name) or 0.0
            for name in self.fields
            if name.endswith("_ms") and not name.endswith("_at_ms")
        }

    @property
    def attempts(self) -> int:
        """Tries so far."""
        return self._as(int, "attempts") or 0

    @property
    def finished_at_ms(self) -> int | None:
        """When it ended: unix time, by the clock of Redis."""
        return self._as(int, "finished_at_ms")

    def _as(self, kind: Callable[[str], T], name: str) -> T | None:
        value = self.fields.get(name)
        if value is None:
            return None
        found: T = self._read(name, _adapter(kind).validate_strings, value)
        return found

    def _json(self, kind: Any, name: str) -> Any:
        value = self.fields.get(name)
        return None if value is None else self._read(name, _adapter(kind).validate_json, value)

    def _read(self, name: str, read: Any, value: str) -> Any:
        try:
            return read(value)
        except ValidationError as error:
            why = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise UnreadableResult(f"job {self.job_id}: field {name!r}: {why}") from None


@dataclass(frozen=True, slots=True)
class Event:
    """The end of one run of a job. `id` is where to resume; the hash is the truth."""

    id: str
    job_id: str
    status: Status
    run: int
    finished_at_ms: int
    label: str | None = None
    score: float | None = None
    error_code: str | None = None
    batch: str | None = None

    @classmethod
    def of(cls: Any, entry: str, fields: Mapping[str, str]) -> "Event | None":
        """An entry of the events' stream; None for one that no worker wrote."""
        told = {**fields, "id": entry, "job_id": fields.get("job", "")}
        try:
            found: Event = _adapter(cls).validate_strings(told)
        except ValidationError:
            return None
        return found if has_ended(fields) else None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
