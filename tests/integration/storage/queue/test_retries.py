"""What waits for its next attempt, by cause, on every server."""

from typing import Any

from storage.queue.retries import MOST, Retries
from storage.wire.messages import Keys


def wait(client: Any, keys: Keys, jobs: list[str], code: str, status: str = "retrying") -> None:
    """Have jobs wait as a worker does."""
    many = client.pipeline(transaction=False)
    for number, job in enumerate(jobs):
        many.zadd(keys.delayed, {job: number})
        many.hset(keys.result(job), mapping={"status": status, "error_code": code})
    many.execute()


def test_they_are_told_by_cause(client: Any, keys: Keys) -> None:
    """Those that are due first before others; nobody where nobody waits."""
    retries = Retries(client, keys)
    assert retries.causes() == {}
    wait(client, keys, ["b", "a"], "internal")
    wait(client, keys, ["c"], "storage_unavailable")
    assert retries.causes() == {"internal": ["b", "a"], "storage_unavailable": ["c"]}


def test_no_more_than_a_thousand_are_looked_at(client: Any, keys: Keys) -> None:
    """However many wait."""
    wait(client, keys, [str(number) for number in range(MOST + 5)], "internal")
    assert len(Retries(client, keys).causes()["internal"]) == MOST


def test_what_no_worker_wrote_is_passed_over(client: Any, keys: Keys) -> None:
    """No hash, one of a job that does not wait, none at all; and a list that is none."""
    wait(client, keys, ["waits"], "internal")
    wait(client, keys, ["runs"], "internal", "running")
    client.zadd(keys.delayed, {"text": 1, "gone": 2})
    client.set(keys.result("text"), "x")
    assert Retries(client, keys).causes() == {"internal": ["waits"]}
    client.delete(keys.delayed)
    client.set(keys.delayed, "x")
    assert Retries(client, keys).causes() == {}
