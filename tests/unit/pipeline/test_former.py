"""The former: when a tape is due, and what is on it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.pipeline.former import Piece, TapeFormer

Former = TapeFormer[int, int]


def new_former(
    tape_slots: int = 10,
    max_wait_seconds: float = 1.0,
    even: Callable[[Sequence[int]], int] = len,
) -> Former:
    """A former whose segments are their own sizes in slots."""
    return TapeFormer(
        slots=lambda segment: segment,
        tape_slots=lambda: tape_slots,
        even=even,
        max_wait_seconds=max_wait_seconds,
    )


def segments(tape: Sequence[Piece[int, int]]) -> list[int]:
    """What is on a tape."""
    return [piece.segment for piece in tape]


def tapes(former: Former) -> Iterator[list[Piece[int, int]]]:
    """All tapes until nothing waits."""
    while former:
        yield former.take()


def test_nothing_is_due_while_nothing_waits() -> None:
    """An empty former has no due time, whether or not more is coming."""
    former = new_former()
    assert former.seconds_left(0.0, more_coming=True) is None
    assert former.seconds_left(0.0, more_coming=False) is None


def test_a_full_tape_is_due_at_once() -> None:
    """Company beyond a full tape is not waited for."""
    former = new_former(tape_slots=10)
    former.add("a", [4], now=0.0)
    former.add("b", [5], now=0.0)
    assert former.seconds_left(0.0, more_coming=True) == 1.0
    former.add("c", [1], now=0.0)
    assert former.seconds_left(0.0, more_coming=True) == 0.0


def test_the_oldest_clip_decides_how_long_is_waited() -> None:
    """Later clips do not put the first one off."""
    former = new_former(max_wait_seconds=1.0)
    former.add("a", [1], now=10.0)
    former.add("b", [1], now=10.75)
    assert former.seconds_left(10.75, more_coming=True) == 0.25
    assert former.seconds_left(11.0, more_coming=True) == 0.0
    assert former.seconds_left(99.0, more_coming=True) == 0.0


def test_nothing_more_coming_makes_it_due() -> None:
    """The last clip of a quiet stream is not kept waiting for company that will not come."""
    former = new_former()
    former.add("a", [1], now=0.0)
    assert former.seconds_left(0.0, more_coming=False) == 0.0


def test_behind_a_busy_device_only_a_full_tape_is_due() -> None:
    """Neither age nor the end of the stream sends a part of one; an idle device takes it."""
    former = new_former(tape_slots=10, max_wait_seconds=1.0)
    former.add("a", [9], now=0.0)
    assert not former.due(99.0, more_coming=False, device_busy=True)
    assert former.due(99.0, more_coming=True, device_busy=False)
    assert former.due(0.0, more_coming=False, device_busy=False)
    former.add("b", [1], now=0.0)
    assert former.due(0.0, more_coming=True, device_busy=True)


def test_after_a_tape_the_rest_waits_from_its_own_arrival() -> None:
    """Slots and ages are those of what still waits, not of what has gone."""
    former = new_former(tape_slots=10, max_wait_seconds=1.0)
    former.add("a", [8], now=0.0)
    former.add("b", [8], now=0.5)
    assert segments(former.take()) == [8]
    assert former.seconds_left(0.5, more_coming=True) == 1.0


def test_first_come_first_served() -> None:
    """A small clip does not overtake a large one that does not fit any more."""
    former = new_former(tape_slots=10)
    for number, slots in enumerate([6, 5, 1, 9]):
        former.add(number, [slots], now=0.0)
    assert [segments(tape) for tape in tapes(former)] == [[6], [5, 1], [9]]


def test_a_window_larger_than_the_tape_goes_alone() -> None:
    """The engine may have shortened the tape: there is always at least one window on it."""
    former = new_former(tape_slots=10)
    for number, slots in enumerate([1, 25, 1]):
        former.add(number, [slots], now=0.0)
    assert [segments(tape) for tape in tapes(former)] == [[1], [25], [1]]


def test_a_tape_that_shrank_counts_from_then_on() -> None:
    """The tape's length is asked for each time, since running out of memory lowers it."""
    length = 10
    former: Former = TapeFormer(
        slots=lambda segment: segment,
        tape_slots=lambda: length,
        even=len,
        max_wait_seconds=1.0,
    )
    former.add("a", [3, 3, 3], now=0.0)
    assert former.seconds_left(0.0, more_coming=True) == 1.0
    length = 6
    assert former.seconds_left(0.0, more_coming=True) == 0.0
    assert segments(former.take()) == [3, 3]


def test_a_long_clip_comes_back_whole_and_in_order() -> None:
    """Its windows lie on several tapes, among others' windows; it is delivered with the last."""
    former = new_former(tape_slots=10)
    former.add("short", [4], now=0.0)
    former.add("long", [5, 6, 7, 8], now=0.0)
    former.add("last", [2], now=0.0)
    first, second, third, fourth = tapes(former)
    assert former.deliver(first, [40, 50]) == [("short", [40])]
    assert former.deliver(second, [20, 60]) == [("last", [20])]
    assert former.deliver(third, [70]) == []
    assert former.deliver(fourth, [80]) == [("long", [50, 60, 70, 80])]


def test_a_short_clip_does_not_wait_for_an_hour_of_audio() -> None:
    """Clips take turns, so that the next tape has the newcomer on it."""
    former = new_former(tape_slots=10)
    former.add("hour", [5] * 100, now=0.0)
    assert segments(former.take()) == [5, 5]
    former.add("short", [2], now=0.0)
    assert segments(former.take()) == [5, 2]


def test_what_would_make_a_tape_uneven_waits_in_its_place() -> None:
    """A clip's next window is not before the one that was put back, nor anybody's turn lost."""
    former = new_former(tape_slots=10, even=lambda tape: len(tape) - 1)
    for number, clip in enumerate([[3], [3], [3, 5], [9]]):
        former.add(number, clip, now=0.0)
    first, second, third, fourth = tapes(former)
    assert list(map(segments, (first, second, third, fourth))) == [[3, 3], [3], [9], [5]]
    assert former.deliver(first, [30, 31]) == [(0, [30]), (1, [31])]
    assert former.deliver(second, [32]) == []
    assert former.deliver(third, [90]) == [(3, [90])]
    assert former.deliver(fourth, [50]) == [(2, [32, 50])]


def test_what_is_put_back_waits_from_its_own_arrival() -> None:
    """And its slots count again."""
    former = new_former(tape_slots=10, even=lambda tape: len(tape) - 1)
    for number in range(4):
        former.add(number, [3], now=float(number))
    assert segments(former.take()) == [3, 3]
    assert former.seconds_left(2.5, more_coming=True) == 0.5
    former.add("full", [4], now=2.5)
    assert former.seconds_left(2.5, more_coming=True) == 0.0


def test_what_is_given_up_takes_no_slot() -> None:
    """Neither its slots nor its age count any more, and the others keep their turns."""
    former = new_former(tape_slots=10, max_wait_seconds=1.0)
    for number, clip in enumerate([[6, 7], [2], [3]]):
        former.add(number, clip, now=float(number))
    assert former.give_up(lambda task: None) == []
    assert former.give_up(lambda task: -1 if task == 0 else None) == [(0, [-1])]
    assert len(former) == 2
    assert not former.due(2.5, more_coming=True, device_busy=True)
    assert former.seconds_left(1.5, more_coming=True) == 0.5
    assert segments(former.take()) == [2, 3]


def test_what_is_given_up_ends_with_its_last_window_on_a_tape() -> None:
    """While a device may still read it, it is not over."""
    former = new_former(tape_slots=10)
    former.add("long", [5] * 100, now=0.0)
    first, second = former.take(), former.take()
    assert former.deliver(first, [50, 50]) == []
    assert former.give_up(lambda task: -1) == []
    assert not former
    assert former.deliver(second, [50, 50]) == [("long", [50, 50, -1, 50, 50])]


def test_a_tape_that_takes_all_that_waits_is_not_cut() -> None:
    """There is nothing to fill the next one with."""
    former = new_former(tape_slots=10, even=lambda tape: 1)
    for number in range(3):
        former.add(number, [3], now=0.0)
    assert segments(former.take()) == [3, 3, 3]


@settings(deadline=None)  # a shared machine may pause for longer than one
@given(
    clips=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), max_size=20),
    tape_slots=st.integers(1, 40),
    added_first=st.integers(0, 20),
    kept=st.floats(0, 1),
)
def test_every_piece_is_delivered_exactly_once(
    clips: list[list[int]], tape_slots: int, added_first: int, kept: float
) -> None:
    """Whatever comes, and however tapes and arrivals alternate, no piece is lost or repeated."""
    former = new_former(tape_slots=tape_slots, even=lambda tape: int(kept * len(tape)))
    arriving = list(enumerate(clips))
    delivered: list[Any] = []
    for number, clip in arriving[:added_first]:
        former.add(number, clip, now=0.0)
    rest = iter(arriving[added_first:])
    while former or (coming := next(rest, None)):
        if former:
            tape = former.take()
            assert len(tape) == 1 or sum(segments(tape)) <= tape_slots
            delivered += former.deliver(tape, [piece.segment * 100 for piece in tape])
            coming = next(rest, None)
        if coming:
            former.add(*coming, now=0.0)
    assert sorted(delivered) == [(n, [100 * slots for slots in clip]) for n, clip in arriving]
    assert former.seconds_left(0.0, more_coming=False) is None


@settings(deadline=None)
@given(
    clips=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=6), max_size=12),
    tape_slots=st.integers(1, 40),
    kept=st.floats(0, 1),
    given_up=st.lists(st.integers(0, 11)),
)
def test_every_clip_ends_exactly_once_whichever_are_given_up(
    clips: list[list[int]], tape_slots: int, kept: float, given_up: list[int]
) -> None:
    """One is given up before each tape, which comes back after the next was sent."""
    former = new_former(tape_slots=tape_slots, even=lambda tape: int(kept * len(tape)))
    for number, clip in enumerate(clips):
        former.add(number, clip, now=0.0)
    ended: list[Any] = []
    running: list[Piece[int, int]] = []
    unwanted = iter(given_up)
    while former or running:
        instead: dict[object, int] = {next(unwanted, None): -1}
        ended += former.give_up(instead.get)
        following = former.take()
        ended += former.deliver(running, segments(running))
        running = following
    assert sorted(number for number, _ in ended) == list(range(len(clips)))
    whole = [(number, outputs) for number, outputs in ended if -1 not in outputs]
    assert all(outputs == clips[number] for number, outputs in whole)
    assert former.seconds_left(0.0, more_coming=False) is None
    assert former._waiting_slots == 0
