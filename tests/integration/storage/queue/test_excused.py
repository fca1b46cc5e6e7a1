"""Jobs given back for faults that are not theirs, against a real server."""

from typing import Any

from storage.queue.entries import Begun, GivenBack, Outcome
from storage.queue.streams import MAX_SICK_MACHINES, JobStreams
from tests.support.stream_workers import DONE, Worker, begin_one, reclaim_one, result


def begin_again(streams: JobStreams) -> Begun:
    """Take what was given back, and begin it."""
    (begun,) = streams.begin([reclaim_one(streams)])
    return begun


def test_an_excuse_is_no_try(client: Any, worker: Worker) -> None:
    """Whoever takes it next has the same try, and the result shows nothing of it."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    one, other = worker("one"), worker("other")
    for counted in (True, False):
        begun = begin_one(one) if counted else begin_again(one)
        assert one.excuse([begun], counted=counted) == [GivenBack.GIVEN]
        assert result(client, "x")["status"] == "queued"
    begun = begin_again(other)
    assert (begun.attempts, begun.delivery.count) == (1, 1)
    other.finish([(begun, DONE)])
    final = result(client, "x")
    assert final["attempts"] == "1"
    assert not [name for name in final if name.startswith("_")]
    assert client.xlen("emo:dead") == 0


def test_three_machines_may_give_a_job_back(client: Any, worker: Worker) -> None:
    """Then a fault counts, however sick the machine is: no job goes round for ever."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    begun = begin_one(worker("m0"))
    for number in range(MAX_SICK_MACHINES):
        assert worker(f"m{number}").excuse([begun], counted=True) == [GivenBack.GIVEN]
        begun = begin_again(worker(f"m{number + 1}"))
    last = worker(f"m{MAX_SICK_MACHINES}")
    assert last.excuse([begun], counted=True) == [GivenBack.OFTEN]
    assert result(client, "x")["status"] == "running"
    retried = last.retry(begun, delay_seconds=0, code="storage_unavailable", message="gone")
    assert retried is Outcome.RETRYING
    last.promote()
    (begun,) = last.begin(last.read(1))
    assert begun.attempts == 2
    assert last.excuse([begun], counted=True) == [GivenBack.OFTEN]


def test_an_outage_is_never_counted(client: Any, worker: Worker) -> None:
    """However often the store goes away, while a job is in hand."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    streams = worker()
    begun = begin_one(streams)
    for _ in range(3 * MAX_SICK_MACHINES):
        assert streams.excuse([begun], counted=False) == [GivenBack.GIVEN]
        begun = begin_again(streams)
    assert (begun.attempts, begun.delivery.count) == (1, 1)


def test_what_is_another_workers_by_now_is_left_alone(client: Any, worker: Worker) -> None:
    """The fence holds here too; so does it for a repeat after a lost reply."""
    client.xadd("emo:jobs", {"key": "a.wav", "job": "x"})
    one, other = worker("one"), worker("other")
    begun = begin_one(one)
    assert one.excuse([begun], counted=True) == [GivenBack.GIVEN]
    assert one.excuse([begun], counted=True) == [GivenBack.FENCED]
    begin_again(other)
    assert one.excuse([begun], counted=True) == [GivenBack.FENCED]
    assert result(client, "x")["worker"] == "other"
