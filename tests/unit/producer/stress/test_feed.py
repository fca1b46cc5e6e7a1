"""What senders are given, and when."""

import threading
import time
from itertools import count

from producer.stress.feed import ClosedFeed, OpenFeed, Shot


def shots(*moments: float) -> list[Shot]:
    """Some that are due then, from now."""
    now = time.monotonic()
    return [Shot(str(n), 0, now + at, measured=True) for n, at in enumerate(moments)]


def test_a_shot_is_given_at_its_time() -> None:
    """Never before, and those that are overdue together."""
    planned = shots(-0.2, -0.1, 1.0)
    feed = OpenFeed(planned)
    assert list(feed.take()) == planned[:2]
    assert list(feed.take()) == planned[2:]
    assert time.monotonic() >= planned[2].intended
    assert not feed.take()


def test_a_schedule_waits_for_nothing() -> None:
    """What has not ended does not hold up what comes next: that is the open loop."""
    feed = OpenFeed(shots(0.0, 0.01, 0.02))
    taken = [list(feed.take()) for _ in range(3)]
    assert sum(map(len, taken)) == 3


def test_stopping_wakes_who_waits() -> None:
    """At once, also the others who wait for their turn."""
    feed = OpenFeed(shots(60.0))
    given: list[object] = []
    waiting = [threading.Thread(target=lambda: given.append(feed.take())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    feed.stop()
    for thread in waiting:
        thread.join(60)
    assert [list(each) for each in given] == [[], [], []]  # type: ignore[call-overload]


def test_a_closed_loop_has_so_many_under_way() -> None:
    """One that ends makes room for one, which is intended at that moment."""
    start, numbers = time.monotonic(), count()

    def fire(at: float) -> Shot:
        return Shot(str(next(numbers)), 0, at, measured=True)

    feed = ClosedFeed(fire, concurrency=3, start=start, until=start + 30)
    first = list(feed.take())
    assert [shot.intended for shot in first] == [start] * 3
    feed.over(first[0])
    (second,) = feed.take()
    assert second.intended > start
    feed.stop()
    assert not feed.take()
    assert not feed.take(), "all senders hear of it"


def test_a_closed_loop_ends_at_its_time() -> None:
    """Also where nothing ends."""
    start = time.monotonic()
    shot = Shot("a", 0, start, measured=True)
    feed = ClosedFeed(lambda at: shot, concurrency=1, start=start, until=start + 1)
    assert list(feed.take()) == [shot]
    assert not feed.take()
    assert time.monotonic() - start >= 1
