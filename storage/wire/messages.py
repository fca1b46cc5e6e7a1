"""The wire contract: keys, lanes, job fields, states. Any language can speak it; see docs/wire.md.

Job fields come from anyone, so they arrive as bytes and are read one by one: what cannot be
understood fails that job alone, with the field's name.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from storage.errors import InvalidJob
from storage.wire.callback import parse_callback
from storage.wire.parts import FIELDS, WHOLE, Parts, parse_parts

GROUP = "workers"
JOB_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# What a job is called that was given no id: such an id cannot be given, or it would be another's.
ENTRY_ID = re.compile(r"(?:high-|bulk-)?[0-9]{12,20}-[0-9]{1,20}")
MAX_KEY_BYTES = 1024  # the limit of S3
MAX_FIELDS = 1000  # more would not fit Lua's stack when the job is put back


class Lane(StrEnum):
    """A job stream. Lanes are read in this order, each with its share of the free places."""

    HIGH = "high"
    NORMAL = "normal"
    BULK = "bulk"


class Status(StrEnum):
    """The state of a job, as its result hash shows it."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing more happens to the job by itself."""
        return self not in (Status.QUEUED, Status.RUNNING, Status.RETRYING)


def has_ended(result: Mapping[str, str]) -> bool:
    """Whether a result hash tells an end; a status that is none of ours does not."""
    return result.get("status") in [status for status in Status if status.terminal]


class Want(StrEnum):
    """What a job asks for; `scores` is always given."""

    SCORES = "scores"
    EMBEDDING = "embedding"
    FRAMES = "frames"
    TIMELINE = "timeline"
    PEAKS = "peaks"
    PREVIEW = "preview"


RENDERED = frozenset({Want.PEAKS, Want.PREVIEW})  # of the recording itself, not of its result
# The lists of a result, each a field, or where it is long an object; and all that may be objects,
# each at the key that a field `<name>_key` tells.
LISTS = ("segments", "channels", "timeline")
OBJECTS = ("embedding", "frames", *LISTS, "peaks", "preview")


class Keys:
    """The names of all keys under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.results = f"{prefix}:results"
        self.delayed = f"{prefix}:delayed"
        self.dead = f"{prefix}:dead"
        self.healed = f"{prefix}:healed"
        self.batches = f"{prefix}:batches"
        self.open_batches = f"{prefix}:batches:open"
        self.bulks = f"{prefix}:bulks"
        self.paused = f"{prefix}:paused"
        self.webhooks = f"{prefix}:webhooks"
        self.dead_webhooks = f"{prefix}:webhooks:dead"
        self.uploads = f"{prefix}:uploads"
        self.workers = f"{prefix}:workers"
        self.lanes = [self.lane(lane) for lane in Lane]

    def lane(self, lane: Lane) -> str:
        """The stream of a lane."""
        return f"{self.prefix}:jobs" if lane is Lane.NORMAL else f"{self.prefix}:jobs:{lane}"

    def aside(self, lane: Lane) -> str:
        """Where a lane is put while it is begun anew."""
        return f"{self.prefix}:aside:{lane}"

    def batch(self, batch: str) -> str:
        """The hash that counts a batch's jobs."""
        return f"{self.prefix}:batch:{batch}"

    def files(self, batch: str) -> str:
        """The hash of the files that a page has sent to a batch: see `storage/queue/files.py`."""
        return f"{self.prefix}:batch-files:{batch}"

    def failures(self, batch: str) -> str:
        """The list of a batch's jobs that failed, the newest first."""
        return f"{self.prefix}:batch-failures:{batch}"

    def bulk(self, bulk: str) -> str:
        """The hash that says how far a bulk is."""
        return f"{self.prefix}:bulk:{bulk}"

    def bulk_refused(self, bulk: str) -> str:
        """The list of a bulk's rows that no job could be made of, the newest first."""
        return f"{self.prefix}:bulk-refused:{bulk}"

    def worker(self, name: str) -> str:
        """The hash in which a worker says how it is."""
        return f"{self.prefix}:worker:{name}"

    def result(self, job_id: str) -> str:
        """The hash that holds a job's state and result."""
        return f"{self.prefix}:result:{job_id}"


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, understood and checked."""

    id: str
    key: str
    bucket: str | None = None
    deadline_ms: int | None = None
    want: frozenset[Want] = frozenset({Want.SCORES})
    callback: str | None = None
    traceparent: str | None = None
    batch: str | None = None
    parts: Parts = WHOLE

    def fields(self) -> dict[str, str]:
        """The stream fields that `parse_job` turns into this job again."""
        optional = {
            "bucket": self.bucket,
            "deadline_ms": self.deadline_ms,
            "callback": self.callback,
            "traceparent": self.traceparent,
            "batch": self.batch,
        }
        # Under the id of an entry it is sent again, which the workers alone can tell.
        name = "job" if may_be_given(self.id) else "_job"
        return {
            "key": self.key,
            name: self.id,
            "want": ",".join(sorted(self.want)),
            **{name: str(value) for name, value in optional.items() if value is not None},
            **self.parts.fields(),
        }


def parse_job(job_id: str, listed: Sequence[bytes], *, max_job_bytes: int) -> Job:
    """Read a job's fields, name and value in turn; unknown ones are left alone.

    Raises InvalidJob, naming the field.
    """
    # What we add to a job that is tried again does not count against it.
    given_fields = [
        (name, value)
        for name, value in zip(listed[::2], listed[1::2], strict=True)
        if not name.startswith(b"_")
    ]
    size = sum(len(name) + len(value) for name, value in given_fields)
    if size > max_job_bytes:
        raise InvalidJob(f"the job's fields hold {size} bytes; at most {max_job_bytes} are allowed")
    if len(given_fields) > MAX_FIELDS:
        raise InvalidJob(
            f"the job has {len(given_fields)} fields; at most {MAX_FIELDS} are allowed"
        )
    fields = dict(given_fields)
    for name in ("job", "batch"):
        require_id(name, _text(fields, name))
    key = _key(fields, "key")
    if not key:
        raise InvalidJob("field 'key': missing; it names the audio object")
    want = parse_want(_text(fields, "want") or "")
    parts = parse_parts(
        {name: _text(fields, name) for name in FIELDS}
        | {"segments_from": _key(fields, "segments_from")}
    )
    require_compatible(want, parts)
    return Job(
        id=job_id,
        key=key,
        bucket=_text(fields, "bucket") or None,
        deadline_ms=_milliseconds(fields, "deadline_ms"),
        want=want,
        callback=_url(fields, "callback"),
        traceparent=_text(fields, "traceparent") or None,
        batch=_text(fields, "batch"),
        parts=parts,
    )


def require_id(name: str, given: str | None) -> None:
    """Raise InvalidJob for what cannot be the id of a job or a batch; None is no id."""
    if given is not None and not JOB_ID.fullmatch(given):
        raise InvalidJob(f"field {name!r}: {given[:40]!r} does not match {JOB_ID.pattern}")
    if given is not None and ENTRY_ID.fullmatch(given):
        raise InvalidJob(f"field {name!r}: {given!r} is the id of an entry, so it cannot be given")


def require_compatible(want: frozenset[Want], parts: Parts) -> None:
    """Raise InvalidJob where what is wanted cannot be given of those parts."""
    if parts.hop_s is not None and Want.TIMELINE not in want:
        raise InvalidJob("field 'hop_s': is the length of the timeline's items: want=timeline too")
    if parts.segmented and Want.FRAMES in want:
        raise InvalidJob(
            "field 'want': frames are given of a whole recording, not of segments: ask for them in "
            "a job of their own"
        )


@lru_cache(maxsize=64)
def parse_want(text: str) -> frozenset[Want]:
    """`embedding,timeline` → what to return; scores always. Raises InvalidJob."""
    wanted = {Want.SCORES}
    for name in filter(None, map(str.strip, text.split(","))):
        try:
            wanted.add(Want(name))
        except ValueError:
            raise InvalidJob(
                f"field 'want': {name[:40]!r} is not one of {', '.join(Want)}"
            ) from None
    return frozenset(wanted)


def may_be_given(job_id: str) -> bool:
    """Whether a job may be sent under that id, by whoever sends it."""
    return bool(JOB_ID.fullmatch(job_id)) and not ENTRY_ID.fullmatch(job_id)


def default_entry(job_id: str) -> tuple[Lane, str] | None:
    """The lane and entry of a job that was enqueued without an id; None for an id of its own."""
    # Numbers of 19 digits always fit an entry id; Redis refuses larger ones.
    match = re.fullmatch(r"(?:(high|bulk)-)?([0-9]{1,19}-[0-9]{1,19})", job_id)
    return (Lane(match[1] or "normal"), match[2]) if match else None


def pairs(flat: Iterable[bytes]) -> dict[bytes, bytes]:
    """Fields as Redis lists them, name and value in turn, as a mapping."""
    items = list(flat)
    return dict(zip(items[::2], items[1::2], strict=True))


def _text(fields: Mapping[bytes, bytes], name: str) -> str | None:
    value = fields.get(name.encode())
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        raise InvalidJob(f"field {name!r}: not UTF-8 (byte {error.start})") from error


def _key(fields: Mapping[bytes, bytes], name: str) -> str | None:
    """An object's key."""
    key = _text(fields, name)
    if key and (len(key.encode()) > MAX_KEY_BYTES or "\0" in key):
        raise InvalidJob(f"field {name!r}: must be at most {MAX_KEY_BYTES} bytes, without NUL")
    return key


def _milliseconds(fields: Mapping[bytes, bytes], name: str) -> int | None:
    text = _text(fields, name)
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise InvalidJob(f"field {name!r}: {text[:40]!r} is not a unix time in milliseconds")
    return int(text)


def _url(fields: Mapping[bytes, bytes], name: str) -> str | None:
    text = _text(fields, name) or None
    if text:
        parse_callback(text)
    return text
