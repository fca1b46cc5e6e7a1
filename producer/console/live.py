"""What the lanes and the workers are doing now; made once a second, for however many pages."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer.client.causes import cancel_waiting, replay_dead
from producer.console.backend import Backend, backend_of, body_of, text_in, told
from storage.errors import InvalidJob
from storage.queue.lanes import LaneState, Overview
from storage.queue.recent import End
from storage.wire.messages import Lane

EVERY_SECONDS = 1.0
RATE_SECONDS = 60.0
_MOST_CONSUMERS = 200
_MOST_WORKERS = 100
_EXAMPLES = 5


class Live:
    """The newest look, shared by all requests."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        operator = backend.client.operator
        self._lanes, self._retries = operator.lanes, operator.retries
        self._ends = operator.recent_ends
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._made_at = float("-inf")

    def look(self) -> dict[str, Any]:
        """What the page shows. Raises RedisError."""
        with self._lock:
            if time.monotonic() >= self._made_at + EVERY_SECONDS:
                self._made = self._make()
                self._made_at = time.monotonic()
            return self._made

    def _make(self) -> dict[str, Any]:
        overview, ends = self._lanes.look(), self._ends.look()
        fleet = self._backend.client.workers(_MOST_WORKERS)
        return {
            "at_ms": round(time.time() * 1000),
            "lanes": [_lane(each, overview) for each in overview.lanes],
            "delayed": overview.delayed,
            "dead": overview.dead,
            "healed": len(overview.healed),
            "rate": rate(ends),
            "causes": causes(ends, self._retries.causes()),
            "workers": [asdict(each) for each in sorted(fleet.workers, key=lambda one: one.name)],
            "workers_total": fleet.total,
            "every_seconds": EVERY_SECONDS,
        }


def _lane(state: LaneState, overview: Overview) -> dict[str, Any]:
    return {
        "lane": state.lane.value,
        "queued": state.queued,
        "in_flight": state.in_flight,
        "delayed": state.delayed,
        "dead": state.dead,
        "oldest_queued_seconds": state.oldest_queued_seconds,
        "oldest_in_flight_seconds": state.oldest_in_flight_seconds,
        "paused_seconds": overview.paused_seconds.get(state.lane),
        "consumers": [asdict(each) for each in state.consumers[:_MOST_CONSUMERS]],
    }


def rate(ends: Sequence[End]) -> dict[str, Any]:
    """Jobs that ended in the last minute, a second; of many, over the time that the events span."""
    recent = [end for end in ends if end.ago_seconds <= RATE_SECONDS]
    span = RATE_SECONDS if len(recent) < len(ends) or not recent else recent[-1].ago_seconds
    span = min(RATE_SECONDS, max(1.0, span))
    failed = sum(end.failed for end in recent)
    return {"jobs_a_second": len(recent) / span, "failed": failed, "ended": len(recent)}


def causes(ends: Sequence[End], waiting: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """What recent failures have in common, the most frequent first, with the newest of each.

    `waiting` are jobs by the cause for which they are to be tried again.
    """
    failed = [end for end in ends if end.failed]
    counted = Counter(end.error_code or end.status for end in failed)
    counted.update(dict.fromkeys(waiting, 0))
    return [
        {
            "code": code,
            "jobs": jobs,
            "dead": sum(end.status == "dead" for end in of_it),
            "waiting": len(waiting.get(code, ())),
            "newest": [
                {"job": end.job_id, "status": end.status, "ago_seconds": end.ago_seconds}
                for end in of_it[:_EXAMPLES]
            ],
        }
        for code, jobs in counted.most_common()
        for of_it in [[end for end in failed if (end.error_code or end.status) == code]]
    ]


def routes() -> list[Route]:
    """Those of the live view."""
    return [
        Route("/api/live", look, methods=["GET"]),
        Route("/api/lanes/{lane}", pause, methods=["POST"]),
        Route("/api/dead/replay", replay, methods=["POST"]),
        Route("/api/retries/cancel", cancel, methods=["POST"]),
    ]


def look(request: Request) -> Response:
    """The newest look."""
    live: Live = request.app.state.live
    return told(live.look())


async def pause(request: Request) -> Response:
    """Pause a lane, or resume it: `{"paused": true}`."""
    backend, asked, name = backend_of(request), await body_of(request), request.path_params["lane"]
    if name not in list(Lane):
        raise InvalidJob(f"{name!r}: is no lane")
    pauses = backend.client.operator.pauses
    act = pauses.pause if asked.get("paused") else pauses.resume
    return told({"changed": await run_in_threadpool(act, Lane(name))})


async def replay(request: Request) -> Response:
    """Run the dead jobs of one cause again, a thousand at most: `{"reason": "not_audio"}`."""
    client, reason = backend_of(request).client, await _reason_of(request)
    acted = await run_in_threadpool(replay_dead, client, reason)
    return told({"replayed": acted.done, "refused": acted.refused})


async def cancel(request: Request) -> Response:
    """Cancel the jobs that wait for a retry by one cause, a thousand at most: `{"reason": …}`."""
    client, reason = backend_of(request).client, await _reason_of(request)
    acted = await run_in_threadpool(cancel_waiting, client, reason)
    return told({"cancelled": acted.done, "refused": acted.refused})


async def _reason_of(request: Request) -> str:
    reason = text_in(await body_of(request), "reason", most=100)
    if not reason:
        raise InvalidJob("field 'reason': name an error code")
    return reason
