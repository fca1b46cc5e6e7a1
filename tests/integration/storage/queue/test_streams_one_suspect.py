"""One suspect at a time, and in nobody's way: what reclaim takes of many, on a real server."""

from typing import Any

from storage.queue.entries import Delivery
from storage.queue.streams import JobStreams
from storage.wire.messages import Keys
from tests.support.polling import until
from tests.support.stream_workers import Worker, lapse

PAGE = 500  # entries that reclaim looks at in one call


def _hold(client: Any, holder: JobStreams, suspects: int, others: int) -> None:
    """A worker that fell silent with suspects, and with others behind them, none of it begun."""
    pipeline = client.pipeline()
    for number in range(suspects):
        pipeline.xadd("emo:jobs", {"key": "a.wav", "job": f"suspect-{number}"})
        crashes = {f"_crash:1-1:dead-{each}:1": "company" for each in range(2)}
        pipeline.hset(f"emo:result:suspect-{number}", mapping={"status": "queued", **crashes})
    for number in range(others):
        pipeline.xadd("emo:jobs", {"key": "a.wav", "job": f"other-{number}"})
    pipeline.execute()
    assert len(holder.read(suspects + others)) == suspects + others


def _jobs(deliveries: list[Delivery]) -> list[str]:
    return [each.fields[b"job"].decode() for each in deliveries]


def test_one_suspect_is_taken_at_a_time(client: Any, worker: Worker) -> None:
    """The others stay where they are, and hide nothing that was abandoned behind them."""
    one, two = worker("one"), worker("two")
    _hold(client, one, suspects=3, others=2)
    taken: list[str] = []
    while len(taken) < 2:
        taken += _jobs(two.reclaim(2 - len(taken), suspects=0).deliveries)
    assert taken == ["other-0", "other-1"]
    assert _jobs(until(lambda: two.reclaim(1).deliveries)) == ["suspect-0"]
    left = client.xpending_range("emo:jobs", "workers", "-", "+", 10, consumername="one")
    assert [each["times_delivered"] for each in left] == [1, 1]


def test_at_most_one_suspect_is_taken_from_all_lanes_together(
    client: Any, keys: Keys, worker: Worker
) -> None:
    """What counts is the worker, not the lane."""
    one, two = worker("one", 60), worker("two", 60)
    for lane in ("emo:jobs:high", "emo:jobs:bulk"):
        client.xadd(lane, {"key": "a.wav", "job": f"x{len(lane)}"})
        client.hset(f"emo:result:x{len(lane)}", mapping={"_crash:1:a:1": "", "_crash:1:b:1": ""})
    assert len(one.read(10)) == 2

    lapse(client, keys, "one")
    assert len(two.reclaim(10).deliveries) == 1
    held = [client.xpending(lane, "workers")["consumers"] for lane in keys.lanes]
    names = [each["name"] for lane in held for each in lane]
    assert sorted(names) == [b"one", b"two"]


def test_a_page_of_suspects_hides_nothing(client: Any, worker: Worker) -> None:
    """Reclaim goes on where it stopped, and comes round again."""
    one, two = worker("one"), worker("two")
    _hold(client, one, suspects=PAGE, others=2)
    taken: list[str] = []
    for _ in range(20):
        taken += _jobs(two.reclaim(1, suspects=0).deliveries)
        if len(taken) == 2:
            break
    assert taken == ["other-0", "other-1"]
    assert _jobs(until(lambda: two.reclaim(1).deliveries)) == ["suspect-0"]
