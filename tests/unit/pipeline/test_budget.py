"""The byte budget: who is admitted, and when."""

import threading
from typing import Any

import pytest

from storage.wire.messages import Job, Want
from tests.support.polling import TIMEOUT_SECONDS, until
from worker.pipeline.budget import ByteBudget, Closed
from worker.pipeline.task import Task


class Asking(threading.Thread):
    """A thread that asks for `size` bytes for a task of its own."""

    def __init__(self, budget: ByteBudget, size: int, **job: Any) -> None:
        super().__init__(daemon=True)
        self.task = Task(Job("x", "a.wav", **job), value=None, overdue_at=60.0)
        self.admitted = threading.Event()
        self.refused = threading.Event()
        self._budget = budget
        self._size = size
        self.start()

    def run(self) -> None:
        """Ask, and say what the answer was."""
        self._budget.charge(self.task)
        try:
            self._budget.admit(self._size)
        except Closed:
            self.refused.set()
        else:
            self.admitted.set()


def admit(budget: ByteBudget, size: int) -> Task:
    """Charge a new task for an object that fits now."""
    asking = Asking(budget, size)
    assert asking.admitted.wait(TIMEOUT_SECONDS)
    return asking.task


def ask_in_vain(budget: ByteBudget, size: int) -> Asking:
    """Ask for more than fits now; returns when the thread stands in the queue."""
    before = len(budget._asking)
    asking = Asking(budget, size)
    until(lambda: len(budget._asking) > before)
    assert not asking.admitted.is_set()
    return asking


def test_a_charge_is_the_object_and_what_decoding_leaves() -> None:
    """One charge covers both, so that no later stage has to ask again."""
    budget = ByteBudget(100, decoded_bytes=10)
    assert admit(budget, 30).charged_bytes == 40
    assert budget.used_bytes == 40


def test_what_decoding_did_not_need_comes_back() -> None:
    """The object is gone, and its waveform may be shorter than the longest that could have been."""
    budget = ByteBudget(100, decoded_bytes=20, frames_bytes=5)
    task, longest = admit(budget, 30), admit(budget, 10)
    budget.decoded(task, 7)
    budget.decoded(longest, 1_000)  # nobody waits for more: it is as if it had been charged
    assert (task.charged_bytes, longest.charged_bytes) == (7, 30)
    assert budget.used_bytes == 37


def test_what_was_never_charged_does_not_come_back() -> None:
    """A task that nobody asked room for owes nothing, whatever it holds."""
    budget = ByteBudget(100, decoded_bytes=20)
    task = Task(Job("x", "a.wav"), value=None)
    budget.decoded(task, 7)
    assert (task.charged_bytes, budget.used_bytes) == (0, 0)


def test_room_for_frames_is_kept_until_the_end() -> None:
    """They come after decoding."""
    budget = ByteBudget(100, decoded_bytes=20, frames_bytes=50)
    asking = Asking(budget, 10, want=frozenset({Want.FRAMES}))
    assert asking.admitted.wait(TIMEOUT_SECONDS)
    budget.decoded(asking.task, 7)
    assert budget.used_bytes == 57


def test_what_does_not_fit_waits_for_room() -> None:
    """Given a full budget, an object is admitted when another's charge comes back."""
    budget = ByteBudget(100, decoded_bytes=0)
    first = admit(budget, 80)
    asking = ask_in_vain(budget, 21)
    budget.release(first.charged_bytes)
    assert asking.admitted.wait(TIMEOUT_SECONDS)
    assert budget.used_bytes == 21


def test_room_that_is_enough_to_the_byte_is_room() -> None:
    """The limit itself may be reached."""
    budget = ByteBudget(100, decoded_bytes=0)
    admit(budget, 80)
    admit(budget, 20)
    assert budget.used_bytes == 100


def test_an_object_larger_than_the_budget_is_admitted_alone() -> None:
    """It waits until nothing else is charged, and then nothing else is admitted."""
    budget = ByteBudget(100, decoded_bytes=0)
    first, second = admit(budget, 10), admit(budget, 10)
    large = ask_in_vain(budget, 1000)
    budget.release(first.charged_bytes)
    assert not large.admitted.wait(0.01)
    budget.release(second.charged_bytes)
    assert large.admitted.wait(TIMEOUT_SECONDS)
    small = ask_in_vain(budget, 1)
    budget.release(large.task.charged_bytes)
    assert small.admitted.wait(TIMEOUT_SECONDS)


def test_a_large_object_does_not_starve() -> None:
    """Small ones that would fit, and came later, wait behind it."""
    budget = ByteBudget(100, decoded_bytes=0)
    first = admit(budget, 50)
    large = ask_in_vain(budget, 90)
    small = ask_in_vain(budget, 5)
    assert not small.admitted.is_set()
    budget.release(first.charged_bytes)
    assert large.admitted.wait(TIMEOUT_SECONDS)
    assert small.admitted.wait(TIMEOUT_SECONDS)
    assert budget.used_bytes == 95


def test_close_wakes_all_who_wait() -> None:
    """Nobody waits for room in a pipeline that has ended, and nothing is charged for it."""
    budget = ByteBudget(100, decoded_bytes=0)
    admit(budget, 100)
    asking = [ask_in_vain(budget, size) for size in (1, 1000, 1)]
    budget.close()
    for one in asking:
        assert one.refused.wait(TIMEOUT_SECONDS)
        assert one.task.charged_bytes == 0
    assert budget.used_bytes == 100


def test_nothing_is_admitted_after_close() -> None:
    """Even where there is room."""
    budget = ByteBudget(100, decoded_bytes=0)
    budget.close()
    assert Asking(budget, 1).refused.wait(TIMEOUT_SECONDS)


def test_threads_charge_their_own_tasks() -> None:
    """What one thread admits never lands on the task of another."""
    budget = ByteBudget(1000, decoded_bytes=1)
    mine = Task(Job("mine", "a.wav"), value=None)
    budget.charge(mine)
    budget.admit(100)
    assert admit(budget, 7).charged_bytes == 8
    budget.admit(10)
    assert mine.charged_bytes == 112


def test_what_nobody_is_charged_for_is_not_admitted() -> None:
    """Nothing could ever give the bytes back: not before a task is charged, nor after it."""
    budget = ByteBudget(100, decoded_bytes=0)
    with pytest.raises(RuntimeError, match="nobody"):
        budget.admit(1)
    budget.charge(Task(Job("x", "a.wav"), value=None))
    budget.charge(None)
    with pytest.raises(RuntimeError, match="nobody"):
        budget.admit(1)
    assert budget.used_bytes == 0


def test_the_time_limit_stands_still_while_a_task_waits_for_room() -> None:
    """Given a job that waits a minute for others' bytes, it is not overdue for that."""
    now = 0.0
    budget = ByteBudget(100, decoded_bytes=0, clock=lambda: now)
    first = admit(budget, 100)
    asking = ask_in_vain(budget, 100)
    now = 1000.0
    assert not asking.task.overdue(now)
    budget.release(first.charged_bytes)
    assert asking.admitted.wait(TIMEOUT_SECONDS)
    assert asking.task.overdue_at == 1060.0


@pytest.mark.parametrize("want", [Want.PEAKS, Want.PREVIEW])
def test_what_is_rendered_is_charged_until_it_is_known(want: Want) -> None:
    """Peaks of all channels and the preview of a window; afterwards what they are."""
    budget = ByteBudget(2**30, decoded_bytes=10)
    asking = Asking(budget, 30, want=frozenset({Want.SCORES, want}))
    assert asking.admitted.wait(TIMEOUT_SECONDS)
    assert asking.task.charged_bytes == 40 + 2 * 1024**2
    budget.decoded(asking.task, 25)
    assert asking.task.charged_bytes == 25
    assert budget.used_bytes == 25
