"""How the workers are: what each says of itself with its heartbeat, and all of it read together.

docs/wire.md has the fields.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import redis

from storage.queue.scripts import load_script
from storage.queue.steps import Call, Steps
from storage.redis.connection import server_now_ms
from storage.wire.messages import Keys, pairs

KEEP_LEASES = 3  # after its last word a worker is gone
MOST_WORKERS = 1000

_LEASE = "EMO_LEASE_SECONDS"
_OF_BEFORE = {
    *("period_s", "clips_per_s", "audio_s_per_s", "latency_ms", "queue_ms", "tape_fill"),
    *("device_share", "cores", "stage_shares", "gpu_uuid"),
}

Value = str | int | float
_T = TypeVar("_T", bound=Value)


class State(StrEnum):
    """What a worker does now."""

    WARMING = "warming"  # it prepares the device, and takes nothing yet
    READY = "ready"
    SICK = "sick"  # its machine is at fault
    STORE_AWAY = "store_away"
    REDIS_AWAY = "redis_away"  # it could not take jobs when it wrote this
    STUCK = "stuck"  # a stage ends nothing: see /livez
    DRAINING = "draining"
    SILENT = "silent"  # said of it: it has missed two of its words, and may be dead


@dataclass(frozen=True, slots=True)
class Gpu:
    """A worker's GPU at its last word; what its driver does not tell is None.

    `utilization` is a share, `verdict`, `reason` and `change` what `python -m worker gpu` says.
    """

    name: str
    uuid: str
    utilization: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    watts: float | None
    limit_watts: float | None
    mhz: int | None
    most_mhz: int | None
    celsius: int | None
    held_down_by: Sequence[str]
    verdict: str
    reason: str
    change: str


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker at its last word, `silent_seconds` ago; what it did not tell is None.

    Rates are those of the `period_seconds` before; shares are of the time, `tape_fill` of a tape's
    slots, `stage_shares` each stage's threads that were busy on average, `cores` what its process
    took without its decode processes. `done` and `not_done` count jobs since its start.
    `state` is one of `State`, unless a newer worker has others; `sickness` says why it takes
    nothing. Of one that is silent no rates, times and shares are told, nor its GPU: they were of
    before. `settings` are those that all workers under one prefix should agree on.
    """

    name: str
    silent_seconds: float
    state: str
    sickness: str
    host: str
    pid: int | None
    version: str
    model: str
    revision: str
    dtype: str
    device: str
    started_at_ms: int | None
    told_at_ms: int | None
    capacity: int | None
    in_flight: int | None
    done: int | None
    not_done: int | None
    period_seconds: float | None
    clips_a_second: float | None
    audio_seconds_a_second: float | None
    latency_ms: float | None
    queue_ms: float | None
    tape_fill: float | None
    device_share: float | None
    cores: float | None
    memory_bytes: int | None
    stage_shares: Mapping[str, float]
    fingerprint: str
    settings: Mapping[str, str]
    gpu: Gpu | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that spoke lately; of more than were asked for, `total` counts the others too."""

    workers: Sequence[Worker]
    total: int
    at_ms: int = field(compare=False)


class Words:
    """A worker's own side. Thread-safe as redis-py's client is."""

    def __init__(self, client: redis.Redis, keys: Keys, name: str, *, lease_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._name = name
        self._keep_ms = round(1000 * KEEP_LEASES * lease_seconds)
        self._tell = load_script(client, "tell")

    def tell(self, told: Mapping[str, Value]) -> None:
        """Replace what was told. Raises RedisError."""
        flat = [part for pair in told.items() for part in pair]
        self._tell(
            keys=[self._keys.worker(self._name), self._keys.workers],
            args=[self._name, self._keep_ms, *flat],
        )

    def take_back(self) -> None:
        """Be one of the workers no more. Raises RedisError."""
        self._client.delete(self._keys.worker(self._name))
        self._client.zrem(self._keys.workers, self._name)


class Workers:
    """Looks at all of them."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def look(self, most: int = MOST_WORKERS) -> Steps[Fleet]:
        """Those that spoke lately, the latest first; in one round trip, at most so many."""
        reply = yield Call("workers", [self._keys.workers], [self._keys.prefix, most])
        now_ms, total, told = reply
        return Fleet([_worker(now_ms, *each) for each in told], total, now_ms)


def fellows(client: redis.Redis, keys: Keys, most: int = MOST_WORKERS) -> list[Worker]:
    """The same with no more rights than a worker's: its user may not run that script's commands.

    By name. Raises RedisError.
    """
    now_ms = server_now_ms(client)
    found: Any = client.zrangebyscore(keys.workers, now_ms, "+inf", start=0, num=most)
    with client.pipeline(transaction=False) as asked:
        for name in found:
            asked.hgetall(keys.worker(_text(name)))
        told = asked.execute(raise_on_error=False)
    return [
        _worker(now_ms, name, *(part for pair in fields.items() for part in pair))
        for name, fields in sorted(zip(found, told, strict=True))
        if isinstance(fields, dict) and fields
    ]


def _worker(now_ms: int, name: bytes, *flat: bytes) -> Worker:
    """What a hash says; anyone with the rights may have written something else into it."""
    told = _Told({_text(key): _text(value) for key, value in pairs(flat).items()})
    told_at_ms = told.whole("told_at_ms")
    silent_seconds = max(0, now_ms - (told_at_ms or now_ms)) / 1000
    lease_seconds = _or_none(float, told.mapping("settings", str).get(_LEASE, ""))
    silent = lease_seconds is not None and silent_seconds > lease_seconds / 2
    if silent:
        told = _Told({name: text for name, text in told.items() if name not in _OF_BEFORE})
    return Worker(
        name=_text(name),
        silent_seconds=silent_seconds,
        state=State.SILENT.value if silent else told.text("state"),
        sickness=_silence(silent_seconds) if silent else told.text("sickness"),
        host=told.text("host"),
        pid=told.whole("pid"),
        version=told.text("version"),
        model=told.text("model"),
        revision=told.text("model_revision"),
        dtype=told.text("dtype"),
        device=told.text("device"),
        started_at_ms=told.whole("started_at_ms"),
        told_at_ms=told_at_ms,
        capacity=told.whole("capacity"),
        in_flight=told.whole("in_flight"),
        done=told.whole("done"),
        not_done=told.whole("not_done"),
        period_seconds=told.number("period_s"),
        clips_a_second=told.number("clips_per_s"),
        audio_seconds_a_second=told.number("audio_s_per_s"),
        latency_ms=told.number("latency_ms"),
        queue_ms=told.number("queue_ms"),
        tape_fill=told.number("tape_fill"),
        device_share=told.number("device_share"),
        cores=told.number("cores"),
        memory_bytes=told.whole("memory_bytes"),
        stage_shares=told.mapping("stage_shares", float),
        fingerprint=told.text("fingerprint"),
        settings=told.mapping("settings", str),
        gpu=_gpu(told) if told.text("gpu_uuid") else None,
    )


def _silence(seconds: float) -> str:
    return f"it has said nothing for {seconds:.0f} s, and may be dead"


def _gpu(told: "_Told") -> Gpu:
    return Gpu(
        name=told.text("gpu_name"),
        uuid=told.text("gpu_uuid"),
        utilization=told.number("gpu_utilization"),
        memory_used_bytes=told.whole("gpu_memory_used_bytes"),
        memory_total_bytes=told.whole("gpu_memory_total_bytes"),
        watts=told.number("gpu_w"),
        limit_watts=told.number("gpu_limit_w"),
        mhz=told.whole("gpu_mhz"),
        most_mhz=told.whole("gpu_most_mhz"),
        celsius=told.whole("gpu_celsius"),
        held_down_by=[each for each in told.text("gpu_held_down_by").split(", ") if each],
        verdict=told.text("gpu_verdict"),
        reason=told.text("gpu_reason"),
        change=told.text("gpu_change"),
    )


class _Told(dict[str, str]):
    """Fields as text, read as what they should be; None, or nothing, where they are not."""

    def text(self, name: str) -> str:
        return self.get(name, "")

    def number(self, name: str) -> float | None:
        return _or_none(float, self.text(name))

    def whole(self, name: str) -> int | None:
        return _or_none(int, self.text(name))

    def mapping(self, name: str, kind: Callable[[Any], _T]) -> dict[str, _T]:
        try:
            found = json.loads(self.text(name))
            told = {str(key): _or_none(kind, value) for key, value in found.items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {}
        return {key: value for key, value in told.items() if value is not None}


def _or_none(kind: Callable[[Any], _T], text: Any) -> _T | None:
    """The text, or the number where a float can hold it."""
    try:
        value = kind(text)
        return value if isinstance(value, str) or math.isfinite(value) else None
    except (ValueError, OverflowError):
        return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
