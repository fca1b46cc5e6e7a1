"""When every sender waited for Redis."""

import random

import pytest

from producer.stress.waits import Stretch, Within, all_taken

SENDERS = 3


def submissions(seed: int) -> list[Stretch]:
    """Of senders that do one after another, with pauses or none, and in whatever order noted."""
    drawn = random.Random(seed)
    made: list[Stretch] = []
    for _ in range(SENDERS):
        at = 0
        for _ in range(30):
            begin = at + drawn.choice((0, 0, 1))
            at = begin + drawn.choice((0, 1, 3))
            made.append((float(begin), float(at)))
    drawn.shuffle(made)
    return made


@pytest.mark.parametrize("seed", range(20))
def test_it_is_when_as_many_submissions_are_under_way(seed: int) -> None:
    """Of each moment the same is said as by counting."""
    made = submissions(seed)
    within = Within(all_taken(made, SENDERS))
    last = int(max(end for _, end in made))
    for second in range(last):
        middle = second + 0.5
        under_way = sum(begin < middle < end for begin, end in made)
        assert within(second, second + 1) == (under_way == SENDERS)
        assert within(second + 0.25, middle) == 0.25 * (under_way == SENDERS)
    assert within(-5, last + 5) == pytest.approx(sum(within(n, n + 1) for n in range(last)))


def test_without_submissions_nobody_waited() -> None:
    """A run of which they are not known."""
    assert all_taken([], SENDERS) == []
    assert Within([])(0.0, 9.0) == 0
