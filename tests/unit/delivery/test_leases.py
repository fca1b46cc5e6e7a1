"""What a worker holds, and the heartbeat that keeps it."""

from dataclasses import replace
from functools import cache

from storage.queue.entries import Delivery
from storage.wire.messages import Job, Lane
from worker.delivery.leases import Leases
from worker.pipeline.task import Task


@cache
def delivery(entry: str = "1-0", count: int = 1, lane: Lane = Lane.NORMAL) -> Delivery:
    """A delivered entry, one for all who name it so."""
    return Delivery(lane, entry, count, ())


def renewable(leases: Leases, now: float) -> list[Delivery]:
    """What would be renewed now."""
    return [each for each, _ in leases.renewable(now)]


def hold(leases: Leases, *deliveries: Delivery) -> list[Task]:
    """Hold entries, and begin a task for each; the job's id is the entry's."""
    leases.hold(deliveries)
    tasks = [Task(Job(each.entry, "a.wav"), value=None, ticket=each) for each in deliveries]
    for each, task in zip(deliveries, tasks, strict=True):
        leases.begun(each, task)
    return tasks


def test_what_was_delivered_is_renewed_before_it_is_begun() -> None:
    """A begin that has to wait for Redis does not cost the lease."""
    leases = Leases()
    leases.hold([delivery("1-0"), delivery("2-0", lane=Lane.BULK)])
    assert renewable(leases, 0.0) == [delivery("1-0"), delivery("2-0", lane=Lane.BULK)]
    assert len(leases) == 2


def test_what_is_settled_is_renewed_no_more() -> None:
    """Dropped means forgotten."""
    leases = Leases()
    hold(leases, delivery("1-0"), delivery("2-0"))
    leases.drop([delivery("1-0")])
    assert renewable(leases, 0.0) == [delivery("2-0")]


def test_the_same_entry_id_in_two_lanes_is_two_leases() -> None:
    """Entry ids are unique in their stream only."""
    leases = Leases()
    hold(leases, delivery(lane=Lane.HIGH), delivery(lane=Lane.BULK))
    leases.drop([delivery(lane=Lane.HIGH)])
    assert renewable(leases, 0.0) == [delivery(lane=Lane.BULK)]


def test_an_overdue_task_is_not_renewed() -> None:
    """A stage that hangs lets others have the job, but stays held in case it comes back."""
    leases = Leases()
    stuck, fine = hold(leases, delivery("1-0"), delivery("2-0"))
    stuck.overdue_at, fine.overdue_at = 50.0, 150.0
    assert renewable(leases, 100.0) == [delivery("2-0")]
    stuck.overdue_at = None
    assert renewable(leases, 100.0) == [delivery("1-0"), delivery("2-0")]


def test_a_newer_delivery_replaces_an_older_one() -> None:
    """Given an entry that came back to the same worker, its first run is abandoned."""
    leases = Leases()
    (older,) = hold(leases, delivery(count=1))
    (newer,) = hold(leases, delivery(count=2))
    assert (older.abandoned, newer.abandoned) == (True, False)
    assert renewable(leases, 0.0) == [delivery(count=2)]


def test_the_same_delivery_is_held_once() -> None:
    """Taken over from ourselves before it was begun, or found although it runs: nothing is new."""
    leases = Leases()
    (task,) = hold(leases, delivery("1-0"))
    assert leases.hold([delivery("1-0"), delivery("2-0")]) == [delivery("2-0")]
    assert leases.hold([delivery("2-0")]) == []
    assert not task.abandoned
    assert leases.take_all() == [(delivery("1-0"), "1-0"), (delivery("2-0"), "")]


def test_the_end_of_an_older_delivery_leaves_the_newer_alone() -> None:
    """Its drop, loss or late begin concerns nobody any more."""
    leases = Leases()
    (older,) = hold(leases, delivery(count=1))
    (newer,) = hold(leases, delivery(count=2))
    leases.drop([delivery(count=1)])
    leases.lose([delivery(count=1)])
    leases.begun(delivery(count=1), older)
    assert renewable(leases, 0.0) == [delivery(count=2)]
    assert not newer.abandoned
    newer.overdue_at = 1.0
    assert renewable(leases, 2.0) == []  # it is the newer task that counts


def test_what_is_said_late_of_a_delivery_is_not_of_the_next() -> None:
    """Given an entry that was given back and taken again, which has the same count once more."""
    leases = Leases()
    hold(leases, given := delivery())
    leases.drop([given])
    (task,) = hold(leases, taken := replace(given))
    assert taken == given
    assert leases.lose([given]) == []  # by a heartbeat whose reply comes only now
    leases.drop([given])
    assert not task.abandoned
    assert not leases.holds(given)
    assert leases.holds(taken)


def test_what_comes_back_while_it_is_given_back_is_new() -> None:
    """The intake may take it again before whoever gave it back has the reply."""
    leases = Leases()
    hold(leases, given := delivery())
    leases.settling([given])
    assert leases.hold([taken := replace(given)]) == [taken]
    leases.drop([given])
    assert leases.holds(taken)


def test_what_is_lost_is_abandoned() -> None:
    """The stages need not finish what another worker has by now."""
    leases = Leases()
    lost, kept = hold(leases, delivery("1-0"), delivery("2-0"))
    leases.lose([delivery("1-0"), delivery("9-0")])
    assert (lost.abandoned, kept.abandoned) == (True, False)
    assert renewable(leases, 0.0) == [delivery("2-0")]


def test_what_is_given_back_is_named_with_its_job() -> None:
    """Entries that were not begun have no job yet; nothing is held afterwards."""
    leases = Leases()
    (task,) = hold(leases, delivery("1-0"))
    leases.hold([delivery("2-0")])
    assert leases.take_all() == [(delivery("1-0"), "1-0"), (delivery("2-0"), "")]
    assert task.abandoned
    assert len(leases) == 0
    assert leases.take_all() == []
