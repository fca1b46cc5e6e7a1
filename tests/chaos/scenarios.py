"""Scripted faults, each with one promise of docs/delivery.md at stake."""

import contextlib
import signal
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from redis.exceptions import OutOfMemoryError

from storage.wire.messages import Lane, Status
from tests.chaos.arena import Arena, arena
from tests.chaos.checks import Check, check, check_exits, is_done, require
from tests.chaos.fleet import Nursery, Worker
from tests.chaos.patience import Found, Impatience, Stopwatch, eventually, let_pass
from tests.chaos.plan import LEASE_SECONDS
from tests.chaos.store_proxy import Mood

_END_SECONDS = 60.0
_PLAIN, _SLOW = "plain-4.wav", "slow-plain-4.wav"
_ALIASES = {_SLOW: _PLAIN}
_CLAIMED_SECONDS = LEASE_SECONDS + 2.0
_OUTAGE_SECONDS = 1.2 * LEASE_SECONDS
_SUSPICIOUS_DELIVERIES = 4
_CROWD = 200
_LEAST_QUEUED, _MORE = 200, 200
_FULL_BYTES = 1  # less than any server uses


def dead_worker(place: Arena) -> list[Check]:
    """A dead worker's jobs are claimed within a lease and two seconds, by one that has room."""
    place.fleet.start_ready(0, 1)
    jobs = _enqueue(place, 60, _SLOW)
    _until(lambda: _all_begun(place), "all are begun")
    survivor, victim = sorted(place.fleet.living(), key=lambda worker: place.pending(worker.owner))
    held, held_up = place.pending(victim.owner), _held_up(survivor)
    victim.signal(signal.SIGKILL)
    watch = Stopwatch()
    # The survivor is asked as well: where it stands still, so does the watch.
    claimed = watch.sees(lambda: survivor.metrics() and not place.pending(victim.owner))
    _until(claimed, "its jobs are claimed")
    # After a look that was held up it waits for a lease, as docs/delivery.md says: that counts
    # where it was not alone to find so.
    waits = min(watch.pauses, _held_up(survivor) - held_up)
    claimed_in_time = watch.seconds <= _CLAIMED_SECONDS + waits * LEASE_SECONDS
    seconds = f"{watch.seconds:.2f} s" + (f", held up {waits} times" if waits else "")
    return [
        require("the victim had jobs in flight", held > 0, f"{held} jobs"),
        require("claimed within a lease and 2 s", claimed_in_time, seconds),
        *_all_done(place, jobs),
    ]


def outages(place: Arena) -> list[Check]:
    """Three outages longer than the lease cost no job anything: all workers are alive."""
    workers = place.fleet.start_ready(0, 1, 2)
    jobs = _enqueue(place, 600, _SLOW)
    accused: set[str] = set()
    in_flight = []

    def many_in_flight() -> int:
        if place.queued() < _LEAST_QUEUED:  # most have ended, before we looked again
            jobs.extend(_enqueue(place, _MORE, _SLOW))
        pending = place.pending()
        return pending if pending > 100 else 0

    for _ in range(3):
        in_flight.append(_until(many_in_flight, "jobs are in flight"))
        pid = place.pause_server()
        let_pass(_OUTAGE_SECONDS)
        place.resume_server(pid)
        accused |= _left_accused(place)
    checks = [
        check("jobs were in flight each time", ", ".join(map(str, in_flight))),
        check("no job is left accused of a crash", f"{len(accused)} jobs", sorted(accused)),
        *_all_done(place, jobs),
    ]
    deliveries = [int(place.result(job)["deliveries"]) for job in jobs]
    most = max(deliveries)
    checks.append(
        require("none was delivered like a suspect", most < _SUSPICIOUS_DELIVERIES, f"{most} times")
    )
    suspects = sum(worker.metrics()["emostream_suspects_run_total"] for worker in workers)
    return [*checks, require("no job became a suspect", suspects == 0, f"{suspects:.0f} suspects")]


def crowd(place: Arena) -> list[Check]:
    """Two hundred jobs that lose their worker run again in ordinary batches, not one by one."""
    room = {"EMO_JOBS_IN_FLIGHT": "256"}
    # None of them ends before the kill, however late that comes.
    (victim,) = place.fleet.start_ready(0, **room, EMO_FETCH_TIMEOUT_SECONDS="60")
    place.store.be(Mood.HANGS)
    jobs = _enqueue(place, _CROWD, _PLAIN)
    _until(lambda: _all_begun(place), "all are begun")
    held = place.pending(victim.owner)
    victim.signal(signal.SIGKILL)
    place.store.be(Mood.CALM)
    place.fleet.start_ready(1, **room)
    _until(lambda: not place.pending(victim.owner), "its jobs are claimed")
    watch = Stopwatch()
    with contextlib.suppress(Impatience):
        _until(watch.sees(lambda: place.ended() >= len(jobs)), "all end")
    seconds, done = watch.seconds, _all_done(place, jobs)
    again = [result for job in jobs if (result := place.result(job))["deliveries"] != "1"]
    clips = statistics.median(int(result["batch_clips"]) for result in again)
    return [
        require("all were in flight", held == _CROWD, f"{held} of {_CROWD}"),
        require("they ran again in batches", clips >= 4, f"median {clips:g} clips on a tape"),
        require("and were done at once", seconds < 10, f"{seconds:.2f} s after they were claimed"),
        *done,
    ]


def full_server(place: Arena) -> list[Check]:
    """At maxmemory without eviction workers wait, say so, and go on when there is room."""
    workers = place.fleet.start_ready(0, 1)
    jobs = _enqueue(place, 200, _SLOW)  # more than both hold, so that there are some to begin
    _until(lambda: place.ended() > 10, "some end")
    place.client.config_set("maxmemory", _FULL_BYTES)
    refused = False
    try:
        _enqueue(place, 1, _PLAIN)
    except OutOfMemoryError:
        refused = True
    _until(lambda: all(map(_complaints, workers)), "every worker says so")
    let_pass(1.5 * LEASE_SECONDS)
    dead = len(place.letters())
    alive = sum(worker.alive for worker in workers)
    place.client.config_set("maxmemory", 0)
    return [
        require("the producer is refused", refused, "OOM" if refused else "XADD went through"),
        check("every worker says so", ", ".join(_complaints(workers[0])[:1])),
        require("no worker ends", alive == len(workers), f"{alive} of {len(workers)} alive"),
        require("no job is given up meanwhile", dead == 0, f"{dead} dead letters"),
        *_all_done(place, jobs),
    ]


def late_finish(place: Arena) -> list[Check]:
    """A worker that comes back too late is fenced: counted, logged, and changes nothing."""
    (late,) = place.fleet.start_ready(0)
    jobs = _enqueue(place, 30, _SLOW)
    _until(lambda: _all_begun(place), "all are begun")
    late.signal(signal.SIGSTOP)
    held = place.pending(late.owner)
    place.fleet.start_ready(1)
    checks = _all_done(place, jobs)
    before = {job: place.result(job) for job in jobs}
    late.signal(signal.SIGCONT)
    _until(lambda: late.metrics()["emostream_jobs_in_flight"] == 0, "it has come through")
    fenced = late.fenced()
    after = {job: place.result(job) for job in jobs}
    changed = [job for job in jobs if before[job] != after[job]]
    return [
        require("the late worker held jobs", held > 0, f"{held} jobs"),
        *checks,
        require("its finishes are counted", fenced == held, f"{fenced:.0f} fenced of {held} held"),
        check("and changed no result", f"{len(after)} compared", changed),
        require("and told no event", place.ended() == len(jobs), f"{place.ended()} events"),
    ]


SCENARIOS: Mapping[str, Callable[[Arena], list[Check]]] = {
    "dead-worker": dead_worker,
    "outages": outages,
    "crowd": crowd,
    "full-server": full_server,
    "late-finish": late_finish,
}


def play(name: str, directory: Path, parent: Nursery) -> list[Check]:
    """One scenario in an arena of its own; workers that end are not replaced."""
    with arena(directory, parent, _ALIASES) as place:
        place.fleet.keep = False
        try:
            checks = SCENARIOS[name](place)
            place.fleet.drain()
        except Impatience as error:
            return [check("it came to an end", "no", [str(error)])]
        return [*checks, check_exits(place.fleet.workers)]


def _enqueue(place: Arena, count: int, key: str) -> list[str]:
    """So many jobs for one object, by plain XADD over the normal lane."""
    lane = place.keys.lane(Lane.NORMAL)
    with place.client.pipeline(transaction=False) as batch:
        for _ in range(count):
            batch.xadd(lane, {"key": key})
        return [entry.decode() for entry in batch.execute()]


def _all_begun(place: Arena) -> bool:
    """Whether everything in the lanes runs; asked in this order, since jobs end meanwhile."""
    running = sum(result["status"] == Status.RUNNING for result in place.results().values())
    return 0 < place.queued() <= running


def _left_accused(place: Arena) -> set[str]:
    """The jobs with evidence of a crash that nobody withdraws.

    Whoever stood still withdraws it once it goes on: so it counts where it stands for a lease and a
    half from when it is found, a lease and a half from now.
    """
    let_pass(1.5 * LEASE_SECONDS)
    found = place.crash_evidence()
    if found:
        let_pass(1.5 * LEASE_SECONDS)
    later = place.crash_evidence() if found else {}
    return {job for job, names in found.items() if set(names).intersection(later.get(job, ()))}


def _held_up(worker: Worker) -> int:
    """How often it has found that its look for abandoned jobs was held up."""
    return sum(event["held_up"] for event in worker.events("entries.reclaimed"))


def _all_done(place: Arena, jobs: list[str]) -> list[Check]:
    """Wait for the end of all, and see that each is done, once."""
    with contextlib.suppress(Impatience):  # the checks below say what is missing
        _until(place.idle, "all ends")
    results = {job: place.result(job) for job in jobs}
    told = [event["job"] for event in place.events()]
    return [
        check(
            "every job is done",
            f"{sum(map(is_done, results.values()))} of {len(jobs)}",
            (f"{job}: {result}" for job, result in results.items() if not is_done(result)),
        ),
        require(
            "with one event for each",
            sorted(told) == sorted(jobs),
            f"{len(told)} events, {len(set(told))} jobs",
        ),
        require("nothing is left", place.idle(), f"{place.queued()} in the lanes"),
        require("no dead letters", not place.letters(), f"{len(place.letters())}"),
    ]


def _complaints(worker: Worker) -> list[str]:
    """What the worker has said of a server that is full."""
    return [
        f"{event['event']}: {event['error']}"
        for event in worker.events()
        if "maxmemory" in str(event.get("error", ""))
    ]


def _until(condition: Callable[[], Found], what: str) -> Found:
    return eventually(condition, _END_SECONDS, what)
