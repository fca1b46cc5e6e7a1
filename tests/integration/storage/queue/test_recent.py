"""What ended last, by the newest events, on every server."""

from typing import Any

from storage.queue.recent import MOST, RecentEnds
from storage.wire.messages import Keys


def test_the_newest_ends_are_told_with_their_ages(client: Any, keys: Keys) -> None:
    """The newest first; who was cancelled has not failed."""
    ends = ("done", ""), ("failed", "not_audio"), ("dead", "internal"), ("cancelled", "")
    for number, (status, code) in enumerate(ends):
        client.xadd(keys.results, {"job": f"job-{number}", "status": status, "error_code": code})
    found = RecentEnds(client, keys).look()
    assert [(end.job_id, end.error_code, end.failed) for end in found] == [
        ("job-3", "", False),
        ("job-2", "internal", True),
        ("job-1", "not_audio", True),
        ("job-0", "", False),
    ]
    assert all(0 <= end.ago_seconds < 60 for end in found)


def test_no_more_than_a_thousand_are_looked_at(client: Any, keys: Keys) -> None:
    """However many are kept."""
    many = client.pipeline(transaction=False)
    for number in range(MOST + 5):
        many.xadd(keys.results, {"job": str(number), "status": "done"})
    many.execute()
    found = RecentEnds(client, keys).look()
    assert (len(found), found[0].job_id) == (MOST, str(MOST + 4))


def test_what_no_worker_wrote_is_passed_over(client: Any, keys: Keys) -> None:
    """No stream, an entry without a status, and one that is too large to be read."""
    ends = RecentEnds(client, keys)
    assert ends.look() == []
    client.xadd(keys.results, {"x": "y"})
    assert ends.look() == []
    client.xadd(keys.results, {"x": bytes(33 * 1024**2)})
    assert ends.look() == []
