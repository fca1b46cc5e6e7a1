"""Sending, where Redis does not take it."""

import time
from typing import Any, cast

import pytest

from producer.client import BacklogFull, Client, Lane, RedisError
from producer.stress.feed import OpenFeed, Shot
from producer.stress.sender import Senders


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
