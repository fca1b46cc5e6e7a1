"""What each clip gives by itself, one after the other: what its scores under load are held to."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from producer.client import Client, Job, Lane, Result
from producer.stress.cancels import Cancels


class StressFailed(Exception):
    """There can be no run, or none to be trusted; the message says why and what to look at."""


@dataclass(frozen=True, slots=True)
class Clip:
    """An object to send: as the user named it, and its key in the store."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Alone:
    """A clip's result where nothing else was sent, and how long that took by our clock."""

    clip: Clip
    result: Result
    took_ms: float


def take_alone(
    client: Client,
    clips: Sequence[Clip],
    lane: Lane,
    *,
    cancels: Cancels,
    prefix: str,
    timeout_seconds: float,
) -> Iterator[Alone]:
    """Each clip, once the one before has ended; of the first, which goes twice, the second time.

    Raises StressFailed where one does not end as done, RedisError.
    """
    for number, clip in enumerate([clips[0], *clips]):
        job = Job(f"{prefix}alone-{number}", clip.key)
        started = time.monotonic()
        client.submit(job, lane)
        try:
            (result,) = client.wait([job.id], timeout_seconds=timeout_seconds)
        except TimeoutError:
            cancels.cancel([job.id])
            raise StressFailed(
                f"{clip.name} has not ended after {timeout_seconds:.0f} s, alone: is a worker "
                f"running, and lane {lane} neither paused nor full? See `producer lanes`"
            ) from None
        except BaseException:
            cancels.cancel([job.id])
            raise
        took_ms = 1000 * (time.monotonic() - started)
        if not result.done:
            why = f" ({result.error.code}: {result.error.message})" if result.error else ""
            raise StressFailed(
                f"{clip.name} ends as {result.status}{why}, alone: leave it out, since nothing can "
                "be said of it under load"
            )
        if number:
            yield Alone(clip, result, took_ms)
