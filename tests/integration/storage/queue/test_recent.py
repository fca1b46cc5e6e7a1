"""What happened lately, by the newest events, on every server."""

from typing import Any

from storage.queue.recent import Recent, recent_ends
from storage.queue.steps import Driver
from storage.wire.messages import Keys


def look(client: Any, keys: Keys, most: int = 1000) -> Recent:
    """What they tell."""
    return Driver(client).run(recent_ends(keys, most))


def test_failures_are_counted_by_cause(client: Any, keys: Keys) -> None:
    """The most frequent first, with the last job of each; who was cancelled has not failed."""
    ends = ("done", ""), ("failed", "not_audio"), ("dead", "internal"), ("failed", "not_audio")
    for number, (status, code) in enumerate((*ends, ("cancelled", ""))):
        fields = {"job": f"job-{number}", "status": status, "error_code": code}
        client.xadd(keys.results, fields, id=f"{1000 + number}-0")
    found = look(client, keys)
    assert found.since_ms == 1000
    assert found.ends == {"done": 1, "failed": 2, "dead": 1, "cancelled": 1}
    assert [(one.code, one.jobs, one.last_job, one.last_at_ms) for one in found.failures] == [
        ("not_audio", 2, "job-3", 1003),
        ("internal", 1, "job-2", 1002),
    ]
    assert look(client, keys, most=2).ends == {"cancelled": 1, "failed": 1}


def test_nothing_has_happened(client: Any, keys: Keys) -> None:
    """No stream, or an entry that no worker wrote."""
    assert look(client, keys) == Recent(None, {}, [])
    client.xadd(keys.results, {"x": "y"}, id="5-0")
    assert look(client, keys).ends == {"": 1}
