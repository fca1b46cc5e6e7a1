"""Workers' sides of the delivery protocol, for its tests."""

from collections.abc import Callable
from typing import Any, TypeVar

from storage.queue.entries import Begun, Delivery, Ending, Verdict
from storage.queue.streams import JobStreams
from storage.wire.messages import Keys, Status
from tests.support.polling import until

Worker = Callable[..., JobStreams]
Side = TypeVar("Side", bound=JobStreams)
DAY_MS = 86_400_000
DONE = Ending(Status.DONE, {"label": "happy", "score": "0.9"})
FAILED = Ending(Status.FAILED, {"error_code": "not_audio", "error": "no audio in it"})
DEAD = Ending(Status.DEAD, {"error_code": "internal", "error": "x"}, dead_reason="internal")


def new_streams(
    kind: type[Side],
    client: Any,
    keys: Keys,
    owner: str,
    lease_seconds: float,
    **options: Any,
) -> Side:
    """One worker's side of the protocol, its group created."""
    streams = kind(
        client,
        owner=owner,
        keys=keys,
        lease_seconds=lease_seconds,
        result_ttl_seconds=60,
        **{"results_maxlen": 1000, "max_crashes": 2, "max_job_bytes": 32 * 1024, **options},
    )
    streams.create_group()
    return streams


def begin_one(streams: JobStreams) -> Begun:
    """Read one entry and begin it."""
    (begun,) = streams.begin(streams.read(1))
    assert begun.verdict is Verdict.RUN
    return begun


def reclaim_one(streams: JobStreams) -> Delivery:
    """Take over the one entry whose lease of a millisecond has run out."""
    (delivery,) = until(lambda: streams.reclaim(10).deliveries)
    return delivery


def lapse(client: Any, keys: Keys, owner: str) -> None:
    """Let all leases of a worker run out: as if it had been silent for a day.

    Workers with long leases see it too, whom no pause of a test makes distrust the clock.
    """
    for stream in keys.lanes:
        for held in client.xpending_range(stream, "workers", "-", "+", 1000, consumername=owner):
            client.xclaim(
                *(stream, "workers", owner, 0, [held["message_id"]]), idle=DAY_MS, justid=True
            )


def now_ms(client: Any) -> int:
    """By the server's clock."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def lives_for(client: Any, key: str, ttl_ms: int, since_ms: int) -> bool:
    """Whether it will be gone `ttl_ms` after a moment that was not before `since_ms`."""
    left_ms = int(client.pttl(key))
    return 0 < left_ms <= ttl_ms <= left_ms + now_ms(client) - since_ms + 1


def result(client: Any, job: str) -> dict[str, str]:
    """A result hash as text."""
    return {k.decode(): v.decode() for k, v in client.hgetall(f"emo:result:{job}").items()}


def end(streams: JobStreams, ending: Ending = DONE, most: int = 1) -> None:
    """End what is next."""
    streams.finish([(begun, ending) for begun in streams.begin(streams.read(most))])
