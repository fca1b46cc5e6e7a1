"""Batches over any order of events, on a real server: the counts against the jobs themselves."""

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from storage.queue.batches import BatchStatus, WrongTotal
from storage.queue.dead import Selection
from storage.queue.entries import Begun, Ending, Verdict
from storage.wire.messages import Keys, Status
from tests.support.batches import Side
from tests.support.polling import until
from tests.support.stream_workers import DEAD, DONE, FAILED, Worker

JOBS = st.sampled_from(["a", "b", "c"])
BATCHES = st.sampled_from(["x", "y", None])
ENDS = [status.value for status in Status if status.terminal]


class Batches(RuleBasedStateMachine):
    """Whoever may do something to a job does it; after each step all counts must be exact."""

    make: Any

    @initialize()
    def empty(self) -> None:
        """A server without anything."""
        self.side: Side = self.make()
        self.running: list[Begun] = []
        self.repeats: Counter[str] = Counter()
        self.submitted_repeats: set[tuple[str, str]] = set()
        self.runs: Counter[str] = Counter()

    @rule(job=JOBS, batch=BATCHES, late=st.booleans())
    def xadd(self, job: str, batch: str | None, late: bool) -> None:
        """Somebody sends an entry, and a worker meets it."""
        fields = {"key": "a.wav", "job": job} | ({"batch": batch} if batch else {})
        self.side.client.xadd("emo:jobs", fields | ({"deadline_ms": "1"} if late else {}))

    @rule(job=JOBS, batch=BATCHES)
    def submit(self, job: str, batch: str | None) -> None:
        """A producer submits; perhaps what is known already."""
        self.side.submit(job, batch)
        first = self.hash(job).get("batch")
        if batch and first != batch and (job, batch) not in self.submitted_repeats:
            self.submitted_repeats.add((job, batch))
            self.repeats[batch] += 1

    @rule()
    def begin(self) -> None:
        """A worker begins what is new."""
        entries = self.side.one.read(20)
        named = {one.entry: one.fields.get(b"batch", b"").decode() for one in entries}
        for begun in self.side.one.begin(entries):
            batch = named[begun.delivery.entry]
            if begun.verdict in (Verdict.ENDED, Verdict.REPEATED) and batch:
                self.repeats[batch] += 1
            if begun.verdict is Verdict.RUN:
                self.running.append(begun)

    @precondition(lambda self: self.running)
    @rule(ending=st.sampled_from([DONE, FAILED, DEAD]), twice=st.booleans())
    def finish(self, ending: Ending, twice: bool) -> None:
        """It ends, and perhaps that is sent again; or others have ended it."""
        begun = self.running.pop(0)
        for _ in range(1 + twice):
            self.side.one.finish([(begun, ending)])

    @rule(ending=st.sampled_from([DONE, FAILED, FAILED, DEAD]))
    def work(self, ending: Ending) -> None:
        """All that is new is begun and ends."""
        self.begin()
        while self.running:
            self.finish(ending, twice=False)

    @precondition(lambda self: self.running)
    @rule()
    def retry(self) -> None:
        """It is put aside, and promoted at once."""
        begun = self.running.pop(0)
        self.side.one.retry(begun, delay_seconds=0, code="internal", message="x")
        self.side.one.promote()

    @precondition(lambda self: self.running)
    @rule()
    def crash(self) -> None:
        """Another worker takes all over, and gives it back: the first one is fenced."""
        taken = until(lambda: self.side.two.reclaim(20, suspects=20).deliveries or self.gone())
        if isinstance(taken, list):
            self.side.two.give_back([(delivery, "") for delivery in taken])
            taken = until(lambda: self.side.one.reclaim(20, suspects=20).deliveries)
            again = [begun for one in taken for begun in self.side.one.begin([one], alone=True)]
            self.running = [begun for begun in again if begun.verdict is Verdict.RUN]

    def gone(self) -> bool:
        """Whether nothing is in flight."""
        return not self.side.client.xpending("emo:jobs", "workers")["pending"]

    @precondition(lambda self: self.running)
    @rule()
    def heartbeat(self) -> None:
        """The worker says that it lives, and hears what is not its own any more."""
        held = [(begun.delivery, begun.job_id) for begun in self.running]
        lost = self.side.one.heartbeat(held)
        self.running = [begun for begun in self.running if begun.delivery not in lost]

    @rule(job=JOBS)
    def cancel(self, job: str) -> None:
        """Somebody does not want it any more."""
        self.side.cancellations.cancel(job)

    @rule(expired=st.booleans())
    def replay(self, expired: bool) -> None:
        """A dead job is sent again, after its result has expired or before."""
        for letter in self.side.letters.select(Selection()):
            hidden = self.hash(letter.job_id)
            if expired and hidden.get("status") == "dead" and hidden.get("run") == letter.run:
                self.side.client.delete(f"emo:result:{letter.job_id}")
            self.side.letters.replay(letter.entry)
            self.side.letters.purge([letter.entry])

    @rule(batch=st.sampled_from(["x", "y"]), total=st.integers(0, 6))
    def seal(self, batch: str, total: int) -> None:
        """Somebody says how many there are."""
        try:
            self.side.seal(total, batch)
        except WrongTotal:
            return

    @rule(batch=st.sampled_from(["x", "y"]))
    def halt(self, batch: str) -> None:
        """Somebody cancels a batch."""
        self.side.cancel(batch)

    @invariant()
    def counts_are_those_of_the_jobs(self) -> None:
        """Each job in its batch once, as its hash says; each repeat once; `complete` once a run."""
        if not hasattr(self, "side"):
            return
        hashes = [self.hash(job) for job in "abc"]
        told = Counter(batch for batch, _ in self.side.events())
        kept = [self.side.state(one) for one in "xy" if self.side.client.exists(f"emo:batch:{one}")]
        due = [state for state in kept if not state.complete]
        still_open = sum(state.status is BatchStatus.OPEN for state in due)
        jobs = sum(state.open for state in due)
        assert self.side.unfinished() == (still_open, len(due) - still_open, jobs)
        for batch in "xy":
            members = [found for found in hashes if found.get("batch") == batch]
            if not self.side.client.exists(f"emo:batch:{batch}"):
                assert not members
                continue
            state = self.side.state(batch)
            assert state.jobs == len(members)
            ends = Counter(found["status"] for found in members)
            assert {each.value: count for each, count in state.ends.items()} == {
                end: ends[end] for end in ENDS
            }
            assert state.repeated == self.repeats[batch]
            reached = state.jobs - state.open + state.repeated
            complete = state.total is not None and state.open == 0 and reached >= state.total
            assert state.complete == complete
            assert (state.status is BatchStatus.OPEN) == (state.total is None)
            assert told[batch] == state.run - (not state.complete)
            failed = Counter(line.split()[0] for line in self.side.failures(batch))
            assert set(failed.values()) <= {1}
            assert sum(failed.values()) == state.failed

    def hash(self, job: str) -> dict[str, str]:
        """A result."""
        raw = self.side.client.hgetall(f"emo:result:{job}")
        return {name.decode(): value.decode() for name, value in raw.items()}


def test_counts_are_exact_in_any_order(client: Any, keys: Keys, worker: Worker) -> None:
    """Some thousand steps, each of which is a script of the protocol."""

    def make() -> Side:
        client.flushdb()
        return Side(client, keys, worker)

    run_state_machine_as_test(
        type("Bound", (Batches,), {"make": staticmethod(make)}),
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            derandomize=True,
        ),
    )
