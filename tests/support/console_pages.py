"""Pages of a console to which no worker belongs: what one would write is written here."""

import json
from collections.abc import Callable
from typing import Any

from producer.client import Client, new_job
from storage.queue.entries import Ending
from storage.queue.streams import JobStreams
from storage.queue.workers import Value
from storage.wire.messages import Keys, Status
from tests.support.stream_workers import begin_one, new_streams

KEYS = Keys("emo")
WORKER: dict[str, Value] = {
    **{"state": "ready", "model": "tiny", "dtype": "float32", "device": "cpu", "pid": 17}
}
SCORES = json.dumps({"happy": 0.9, "sad": 0.1})
DONE = Ending(Status.DONE, {"label": "happy", "score": "0.9", "scores": SCORES})
Open = Callable[..., Any]


def end(url: str, client: Any, job: str, ending: Ending) -> None:
    """Submit a job, and end it so."""
    with Client(url) as queue:
        queue.submit(new_job("a.wav", job=job))
    end_next(client, ending)


def end_next(client: Any, ending: Ending) -> None:
    """End the job that is queued so."""
    streams = new_streams(JobStreams, client, KEYS, "test", 30)
    streams.finish([(begin_one(streams), ending)])
