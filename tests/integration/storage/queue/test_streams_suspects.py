"""Crashes and suspects: who died, alone or in company, and what follows, on a real server."""

from itertools import pairwise
from typing import Any

from storage.queue.entries import Begun, Delivery, Ending, Outcome, Verdict
from storage.queue.streams import JobStreams
from storage.queue.takeover import MAX_DELIVERIES
from storage.wire.messages import Keys, Status
from tests.support.polling import until
from tests.support.stream_workers import (
    DONE,
    Worker,
    begin_one,
    lapse,
    new_streams,
    reclaim_one,
    result,
)


def evidence(client: Any, job: str) -> dict[str, str]:
    """What a job's hash holds against it: each crash, and whether it was alone."""
    return {name: how for name, how in result(client, job).items() if name.startswith("_crash:")}


def add(client: Any, job: str = "x") -> str:
    """Enqueue a job; returns its entry."""
    return str(client.xadd("emo:jobs", {"key": "a.wav", "job": job}).decode())


def begin(streams: JobStreams, delivery: Delivery, *, alone: bool = False) -> Begun:
    """Begin one entry."""
    (begun,) = streams.begin([delivery], alone=alone)
    return begun


def crash(worker: Worker, *owners: str, alone: bool = False) -> Delivery:
    """Workers die one after another with the one job that there is; the last one has taken it."""
    workers = [worker(owner) for owner in owners]
    delivery = workers[0].read(1)[0]
    for holder, heir in pairwise(workers):
        assert begin(holder, delivery, alone=alone).verdict is Verdict.RUN
        delivery = reclaim_one(heir)
    return delivery


def test_a_crash_in_company_proves_nothing(client: Any, worker: Worker) -> None:
    """After one crash the job is begun beside others, like any other."""
    entry = add(client)
    taken = crash(worker, "one", "two")
    assert evidence(client, "x") == {f"_crash:{entry}:one:1": "company"}
    assert "_armed" not in result(client, "x")
    again = begin(worker("two"), taken)
    assert (again.verdict, again.crashes) == (Verdict.RUN, 1)


def test_a_killed_workers_jobs_run_again_together(client: Any, worker: Worker) -> None:
    """Two hundred of them: none of them is a suspect."""
    for number in range(200):
        add(client, f"job-{number}")
    one, two = worker("one"), worker("two")
    assert {begun.verdict for begun in one.begin(one.read(200))} == {Verdict.RUN}
    taken = until(lambda: two.reclaim(200).deliveries)
    assert len(taken) == 200
    assert {begun.verdict for begun in two.begin(taken)} == {Verdict.RUN}


def test_a_second_crash_makes_a_suspect(client: Any, worker: Worker) -> None:
    """It is not begun beside others, and nothing is written; alone it is."""
    add(client)
    taken = crash(worker, "one", "two", "three")
    three = worker("three")
    before = result(client, "x")
    assert begin(three, taken).verdict is Verdict.SUSPECT
    assert result(client, "x") == before
    alone = begin(three, taken, alone=True)
    assert (alone.verdict, alone.crashes, alone.deliveries) == (Verdict.RUN, 2, 3)
    assert result(client, "x")["_armed"] == "three:3:alone"


def test_an_innocent_suspect_is_cleared_by_its_result(client: Any, worker: Worker) -> None:
    """It was beside a poison job twice; alone it comes to its end."""
    add(client)
    taken = crash(worker, "one", "two", "three")
    three = worker("three")
    begun = begin(three, taken, alone=True)
    assert three.finish([(begun, DONE)]) == [Outcome.SETTLED]
    assert result(client, "x")["status"] == "done"
    assert evidence(client, "x") == {}


def test_dying_alone_twice_makes_a_dead_letter(client: Any, worker: Worker) -> None:
    """Two workers died with nothing but this job in them: it is the job."""
    add(client)
    begin(worker("two"), crash(worker, "one", "two", alone=True), alone=True)
    three = worker("three")
    assert until(lambda: three.reclaim(10).dead) == ["x"]
    assert result(client, "x")["status"] == "dead"
    assert result(client, "x")["error_code"] == "crash_loop"
    assert "2 workers died of it, alone with it" in result(client, "x")["error"]
    ((_, letter),) = client.xrange("emo:dead")
    assert (letter[b"_reason"], letter[b"_owner"], letter[b"key"]) == (
        b"crash_loop",
        b"two",
        b"a.wav",
    )
    assert client.xlen("emo:jobs") == 0


def test_dying_in_company_makes_no_dead_letter(client: Any, worker: Worker) -> None:
    """Two crashes beside others make a suspect; one more, alone, is not enough either."""
    add(client)
    taken = crash(worker, "one", "two", "three")
    begin(worker("three"), taken, alone=True)
    again = reclaim_one(worker("four"))
    assert sorted(evidence(client, "x").values()) == ["alone", "company", "company"]
    assert begin(worker("four"), again, alone=True).verdict is Verdict.RUN


def test_the_number_of_deaths_alone_is_a_setting(client: Any, keys: Keys) -> None:
    """With EMO_MAX_CRASHES=1 the first one is enough; in company it is not."""
    for job in ("alone", "company"):
        add(client, job)
    one, two, three = (
        new_streams(JobStreams, client, keys, owner, 0.001, max_crashes=1)
        for owner in ("one", "two", "three")
    )
    begin(one, one.read(1)[0], alone=True)
    begin(two, two.read(1)[0])
    dead: set[str] = set()
    taken: set[str] = set()  # and again, since its lease runs out too

    def both() -> bool:
        found = three.reclaim(10)
        dead.update(found.dead)
        taken.update(each.fields[b"job"].decode() for each in found.deliveries)
        return bool(dead and taken)

    until(both)
    assert (dead, taken) == ({"alone"}, {"company"})


def accuse(client: Any, keys: Keys, worker: Worker) -> Begun:
    """One worker died alone with the job; a second one is taken for dead, and has it in hand."""
    add(client)
    two = worker("two")
    begun = begin(two, crash(worker, "one", "two", alone=True), alone=True)
    lapse(client, keys, "two")
    found = worker("three", 60).reclaim(10)
    assert (found.deliveries, found.dead, found.held_up) == ([], [], False)
    return begun


def test_a_worker_that_lives_saves_its_suspect(client: Any, keys: Keys, worker: Worker) -> None:
    """Stopped for a while, alone with it: one lease long it may say that it did not die of it."""
    begun = accuse(client, keys, worker)
    assert len(evidence(client, "x")) == 2
    assert worker("two").finish([(begun, DONE)]) == [Outcome.FENCED]
    assert len(evidence(client, "x")) == 1
    heir = worker("heir")
    taken = reclaim_one(heir)
    assert taken.count == begun.delivery.count + 1
    assert heir.finish([(begin(heir, taken, alone=True), DONE)]) == [Outcome.SETTLED]
    assert result(client, "x")["status"] == "done"


def test_the_accused_are_anothers_for_one_lease(client: Any, keys: Keys, worker: Worker) -> None:
    """By nobody's patience or drain is it judged sooner."""
    accuse(client, keys, worker)
    patient = worker("patient", 60)
    for given_back_only in (False, True):
        found = patient.reclaim(10, given_back_only=given_back_only)
        assert (found.deliveries, found.dead) == ([], [])
    (pending,) = client.xpending_range("emo:jobs", "workers", "-", "+", 10)
    assert (pending["consumer"], pending["times_delivered"]) == (b"accused", 2)


def test_four_deliveries_without_an_end_make_a_suspect(client: Any, worker: Worker) -> None:
    """Though no worker died of it: it hung, and its lease ran out. Three lapses are excused."""
    add(client)
    one = worker("one")
    delivery = one.read(1)[0]
    verdicts = []
    for _ in range(7):
        verdicts.append(begin(one, delivery).verdict)
        if verdicts[-1] is Verdict.RUN:
            delivery = reclaim_one(one)
    assert verdicts == [Verdict.RUN] * 6 + [Verdict.SUSPECT]
    assert evidence(client, "x") == {}


def test_a_suspect_that_is_left_has_not_lapsed(client: Any, worker: Worker) -> None:
    """What its own worker finds, and may not take now, is not excused for each look."""
    add(client)
    one = worker("one")
    begin(one, one.read(1)[0])
    for _ in range(6):
        last = reclaim_one(one)
        begin(one, last, alone=True)
    until(lambda: client.xpending_range("emo:jobs", "workers", "-", "+", 1, idle=2))
    before = result(client, "x")
    assert before[f"_lapses:{last.entry}"] == "6"
    assert one.reclaim(10, suspects=0).deliveries == []
    assert result(client, "x") == before


def test_a_repeated_entry_accuses_nobody(client: Any, worker: Worker) -> None:
    """A job is armed by one entry: taking over another of it is no crash, and hides none."""
    add(client)
    add(client)
    one, two, three = worker("one", 60), worker("two", 60), worker("three")
    armed, repeated = one.read(2)
    begin(one, armed)
    day = {"idle": 86_400_000, "retrycount": 1, "justid": True}
    client.xclaim("emo:jobs", "workers", "one", 0, [repeated.entry], **day)
    taken = reclaim_one(two)
    assert (taken.entry, evidence(client, "x")) == (repeated.entry, {})
    assert begin(two, taken).verdict is Verdict.REPEATED
    assert reclaim_one(three).entry == armed.entry
    assert evidence(client, "x") == {f"_crash:{armed.entry}:one:1": "company"}


def beat(streams: JobStreams, stale: Begun) -> None:
    """A worker says that it lives."""
    assert streams.heartbeat([(stale.delivery, stale.job_id)]) == [stale.delivery]


def test_outages_make_no_suspects(client: Any, worker: Worker) -> None:
    """Three lapses, each with a takeover: the workers live, and withdraw what was held against."""
    add(client)
    owners = [worker(f"worker-{number}") for number in range(4)]
    delivery = owners[0].read(1)[0]
    for holder, heir in pairwise(owners):
        begun = begin(holder, delivery)
        assert begun.verdict is Verdict.RUN
        delivery = reclaim_one(heir)
        beat(holder, begun)
    last = begin(owners[-1], delivery)
    assert (last.verdict, last.crashes, delivery.count) == (Verdict.RUN, 0, 4)


def test_lapses_are_not_excused_for_ever(client: Any, worker: Worker) -> None:
    """A job that freezes its worker each time comes to run alone, and at ten is given up."""
    add(client)
    holder = worker("worker-1")
    delivery = holder.read(1)[0]
    verdicts = []
    for number in range(2, MAX_DELIVERIES + 2):
        verdicts.append(begin(holder, delivery).verdict)
        begun = begin(holder, delivery, alone=verdicts[-1] is Verdict.SUSPECT)
        heir = worker(f"worker-{number}")
        if number > MAX_DELIVERIES:
            break
        delivery = reclaim_one(heir)
        beat(holder, begun)
        holder = heir
    assert verdicts == [Verdict.RUN] * 6 + [Verdict.SUSPECT] * 4
    assert until(lambda: heir.reclaim(10).dead) == ["x"]
    assert "delivered 10 times" in result(client, "x")["error"]


def test_evidence_survives_a_retry(client: Any, worker: Worker) -> None:
    """A store that was away after two crashes does not clear the job; its new entry is one too."""
    add(client)
    taken = crash(worker, "one", "two", "three")
    three = worker("three")
    begun = begin(three, taken, alone=True)
    three.retry(begun, delay_seconds=0, code="storage_unavailable", message="away")
    assert three.promote().due == 1
    again = three.read(1)[0]
    assert again.count == 1
    assert begin(three, again).verdict is Verdict.SUSPECT


def test_a_new_run_begins_without_evidence(client: Any, worker: Worker) -> None:
    """What became a dead letter and is sent again is nobody's suspect."""
    add(client)
    taken = crash(worker, "one", "two", "three")
    three = worker("three")
    ending = Ending(Status.DEAD, {}, dead_reason="internal")
    three.finish([(begin(three, taken, alone=True), ending)])
    client.delete("emo:result:x")
    add(client)
    assert begin_one(three).crashes == 0


def test_a_suspect_that_is_left_keeps_its_holder(client: Any, worker: Worker) -> None:
    """Should that holder live after all, it goes on as if nothing had happened."""
    add(client)
    taken = crash(worker, "one", "two")
    two, three = worker("two"), worker("three")
    begun = begin(two, taken)
    for _ in range(5):
        assert three.reclaim(10, suspects=0).deliveries == []
    assert two.heartbeat([(begun.delivery, "x")]) == []
    assert two.finish([(begun, DONE)]) == [Outcome.SETTLED]
