"""Jobs with a callback, and what of their ends is to be sent."""

from typing import Any

from storage.queue.cancellation import Cancellations
from storage.wire.messages import Keys

URL = "https://hooks.example.org/ends?of=jobs"


def told(client: Any) -> list[dict[str, str]]:
    """What is to be sent, without its time."""
    found = [
        {name.decode(): value.decode() for name, value in fields.items()}
        for _, fields in client.xrange("emo:webhooks")
    ]
    assert all(one.pop("finished_at_ms").isdigit() for one in found)
    return found


def add(client: Any, **fields: str) -> str:
    """A job with a callback, by plain XADD."""
    return str(client.xadd("emo:jobs", {"key": "a.wav", "callback": URL, **fields}).decode())


def cancel(client: Any, keys: Keys, job: str) -> str:
    """What the cancellation came to."""
    side = Cancellations(client, keys=keys, result_ttl_seconds=60, results_maxlen=9)
    return side.cancel(job).verdict.value
