"""Sending, where Redis does not take it."""

import queue
import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from producer.client import BacklogFull, Client, Lane, RedisError
from producer.stress import sender
from producer.stress.feed import OpenFeed, Shot
from producer.stress.sender import SENDERS, Senders
from producer.stress.waits import Within, all_taken
from tests.support.polling import TIMEOUT_SECONDS, until


class Refusing:
    """A client whose every submission is answered so."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def submit(self, *_: Any) -> None:
        """Refuse."""
        raise self.error

    def submit_many(self, *_: Any, **__: Any) -> list[object]:
        """Refuse."""
        raise self.error


class Times:
    """The module `time`, of a clock that a test sets."""

    def __init__(self) -> None:
        self.now = 10.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


class StandsStill:
    """A client whose Redis takes nothing until it is let."""

    def __init__(self) -> None:
        self.waiting = 0
        self.let = threading.Event()
        self._lock = threading.Lock()

    def submit(self, *_: Any) -> None:
        """Wait for it."""
        with self._lock:
            self.waiting += 1
        assert self.let.wait(TIMEOUT_SECONDS)


class OneByOne:
    """A feed that gives a shot to whoever asks, and ends with None."""

    def __init__(self) -> None:
        self.shots: queue.SimpleQueue[Shot | None] = queue.SimpleQueue()

    def take(self) -> Sequence[Shot]:
        """The next."""
        shot = self.shots.get()
        if shot is None:
            self.stop()
        return [] if shot is None else [shot]

    def over(self, shot: Shot) -> None:
        """It is all the same."""

    def stop(self) -> None:
        """For the next who asks."""
        self.shots.put(None)


def shots(count: int) -> list[Shot]:
    """Some that are due."""
    return [Shot(str(n), 0, time.monotonic(), measured=True) for n in range(count)]


def senders(client: object, planned: list[Shot]) -> Senders:
    """Those that have no patience."""
    feed = OpenFeed(planned)
    return Senders(cast(Client, client), feed, ["a"], Lane.NORMAL, patience_seconds=0.0)


@pytest.mark.parametrize("count", [1, 20])
def test_full_lanes_are_noted(count: int) -> None:
    """Each job that met them, by itself or among others; the run goes on."""
    planned = shots(count)
    sending = senders(Refusing(BacklogFull("full")), planned)
    sending.start()
    assert sending.join(60)
    assert all(shot.refused and shot.sent is not None for shot in planned)


@pytest.mark.parametrize("error", [RedisError("gone"), ValueError("a bug")])
def test_what_cannot_be_sent_ends_the_run(error: Exception) -> None:
    """The first fault is raised, and nothing more is sent."""
    late = Shot("late", 0, time.monotonic() + 60, measured=True)
    sending = senders(Refusing(error), [*shots(1), late])
    sending.start()
    with pytest.raises(type(error), match=str(error)):
        while not sending.join(60):
            pass
    assert late.sent is None


@pytest.mark.parametrize("senders_held", [SENDERS - 1, SENDERS])
def test_it_is_known_when_all_waited_for_redis(
    monkeypatch: pytest.MonkeyPatch, senders_held: int
) -> None:
    """What was due while every sender was in a submission is late for want of Redis."""
    times, feed, client = Times(), OneByOne(), StandsStill()
    monkeypatch.setattr(sender, "time", times)
    sending = Senders(cast(Client, client), feed, ["a"], Lane.NORMAL)
    sending.start()
    for number in range(senders_held):
        feed.shots.put(Shot(str(number), 0, times.now, measured=True))
    until(lambda: client.waiting == senders_held)
    due_at = times.now = 10.5
    times.now = 12.0
    client.let.set()
    until(lambda: len(sending.submissions) == senders_held)
    late = Shot("late", 0, due_at, measured=True)
    feed.shots.put(late)
    feed.stop()
    assert sending.join(TIMEOUT_SECONDS)
    assert late.sent == 12.0
    waited = Within(all_taken(sending.submissions, SENDERS))
    assert waited(late.intended, late.sent) == (1.5 if senders_held == SENDERS else 0.0)


def test_a_closed_loop_that_waits_for_room_waits_for_no_redis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time in which full lanes are left alone is no part of a submission."""
    times, feed = Times(), OneByOne()
    monkeypatch.setattr(sender, "time", times)
    feed.over = lambda shot: setattr(times, "now", 11.0)  # type: ignore[method-assign]
    sending = Senders(cast(Client, Refusing(BacklogFull("full"))), feed, ["a"], Lane.NORMAL)
    feed.shots.put(Shot("a", 0, times.now, measured=True))
    feed.stop()
    sending.start()
    assert sending.join(TIMEOUT_SECONDS)
    assert sending.submissions == [(10.0, 10.0)]
