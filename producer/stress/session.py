"""Runs, one after the other, on clips that are in the store and known alone."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

from producer.client import Client, Contract, Lane
from producer.stress.alone import Alone
from producer.stress.cancels import Cancels
from producer.stress.clock import Clocks, read_offset
from producer.stress.feed import ClosedFeed, Feed, OpenFeed, Shot
from producer.stress.figures import Ran, summarize
from producer.stress.report import Asked, Run
from producer.stress.sampler import Sampler, cores
from producer.stress.schedule import Arrivals, clip_choices, draw
from producer.stress.sender import Senders
from producer.stress.waits import Stretch
from producer.stress.watcher import Watcher

_LEAD_SECONDS = 0.2  # from the drawing of a schedule to its first moment
_LOOK_SECONDS = 0.1
_SWEEP_SECONDS = 5.0  # events are a hint: where none comes, hashes are read
_GRACE_SECONDS = 0.5  # in which a second end would come
_SAMPLES, _LEAST_SAMPLE_SECONDS = 120, 0.5
# A sender that must wait for Python's lock is late; by default it waits up to 5 ms.
_SWITCH_SECONDS = 0.0005

Hopeless = Callable[[Sequence[Shot], float], bool]


@dataclass(frozen=True, slots=True)
class Target:
    """Where jobs go, and as whose."""

    client: Client
    url: str
    contract: Contract
    lane: Lane
    prefix: str
    drain_seconds: float


class Session:
    """Runs on one set of clips; use it in a `with`. Raises RedisError."""

    def __init__(
        self,
        target: Target,
        alone: Sequence[Alone],
        *,
        cancels: Cancels,
        say: Callable[[str], None],
    ) -> None:
        self._target = target
        self._cancels = cancels
        self._alone = alone
        self._say = say
        self._numbers = count(1)
        self._watcher = Watcher(
            target.url, target.contract, after=_now(target.client), prefix=target.prefix
        )

    def __enter__(self) -> "Session":
        self._watcher.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._watcher.__exit__(None, None, None)

    def run(self, asked: Asked, *, hopeless: Hopeless | None = None) -> Run:
        """One run, drained to the end.

        `hopeless` is asked now and then, with the shots and the time: where it says so, sending
        ends early.
        """
        began_at = datetime.now(UTC).isoformat(timespec="seconds")
        before = read_offset(self._target.client.operator.time)
        start = time.monotonic() + _LEAD_SECONDS
        shots, feed = self._feed(asked, start)
        self._watcher.follow(shots, feed)
        sampler = Sampler(
            self._target.client,
            every_seconds=max(_LEAST_SAMPLE_SECONDS, asked.end_s / _SAMPLES),
            workers=self._workers(()),
        )
        sampler.start(start)
        try:
            with _short_switches():
                stopped, submissions = self._send(feed, shots, hopeless)
                self._drain(shots)
        except BaseException:
            feed.stop()
            self._cancel(shots)
            raise
        finally:
            sampler.stop()
        after = read_offset(self._target.client.operator.time)
        self._read_results(list(shots.values()))
        return summarize(
            Ran(
                asked=asked,
                shots=list(shots.values()),
                alone=self._alone,
                start=start,
                clocks=Clocks(before, after),
                began_at=began_at,
                cores=cores(),
                foreign=self._watcher.foreign,
                stopped=stopped,
                submissions=submissions,
                samples=sampler.samples(self._workers(shots.values())),
                notes=[f"{x} could not be looked at: {y}" for x, y in sampler.faults.items()],
            )
        )

    def _workers(self, shots: Iterable[Shot]) -> set[str]:
        """Who did these and the clips alone, by the results."""
        results = [each.result for each in self._alone]
        results += [shot.result for shot in shots if shot.result is not None]
        return {result.fields["worker"] for result in results if result.fields.get("worker")}

    def _feed(self, asked: Asked, start: float) -> tuple[dict[str, Shot], Feed]:
        """The shots by their jobs' ids, all of them or as they come, and what gives them."""
        run, numbers, clips = next(self._numbers), count(), len(self._alone)
        shots: dict[str, Shot] = {}

        def fire(intended: float, clip: int) -> Shot:
            job_id = f"{self._target.prefix}{run}-{next(numbers)}"
            measured = intended - start >= asked.warm_up_s
            shots[job_id] = Shot(job_id, clip, intended, measured)
            return shots[job_id]

        if asked.rate is not None:
            arrivals = Arrivals(asked.arrivals or Arrivals.POISSON)
            planned = draw(
                arrivals, rate=asked.rate, seconds=asked.end_s, clips=clips, seed=asked.seed
            )
            return shots, OpenFeed([fire(start + each.at_seconds, each.clip) for each in planned])
        assert asked.concurrency is not None
        choices = clip_choices(clips, asked.seed)
        return shots, ClosedFeed(
            lambda at: fire(at, next(choices)),
            concurrency=asked.concurrency,
            start=start,
            until=start + asked.end_s,
        )

    def _send(
        self, feed: Feed, shots: dict[str, Shot], hopeless: Hopeless | None
    ) -> tuple[float | None, list[Stretch]]:
        """When sending was ended early, None where it was not; and how long submissions took."""
        senders = Senders(
            self._target.client, feed, [x.clip.key for x in self._alone], self._target.lane
        )
        senders.start()
        stopped = None
        while not senders.join(_LOOK_SECONDS):
            self._watcher.wait(0, seconds=0)
            if stopped is None and hopeless is not None:
                now = time.monotonic()
                if hopeless(list(shots.values()), now):
                    stopped = now
                    feed.stop()
        return stopped, senders.submissions

    def _drain(self, shots: dict[str, Shot]) -> None:
        """Wait until all that was sent has ended, or for as long as was agreed."""
        sent = [shot for shot in shots.values() if shot.sent is not None and not shot.refused]
        deadline = time.monotonic() + self._target.drain_seconds
        told = False
        while not self._watcher.wait(len(sent), seconds=self._patience(deadline)):
            still = [shot for shot in sent if not shot.ends]
            if not told:
                self._say(f"draining: {len(still)} jobs are open")
                told = True
            if not any(self._is_open(shot) for shot in still):
                break
            if time.monotonic() > deadline:
                self._say(f"{len(still)} jobs are open after {self._target.drain_seconds:g} s")
                self._read_results(still)
                self._cancel({shot.job_id: shot for shot in still})
                return
        time.sleep(_GRACE_SECONDS)  # what must not come cannot be waited for

    def _patience(self, deadline: float) -> float:
        return min(_SWEEP_SECONDS, max(0.0, deadline - time.monotonic()))

    def _is_open(self, shot: Shot) -> bool:
        result = self._target.client.status(shot.job_id)
        return result is not None and not result.ended

    def _cancel(self, shots: dict[str, Shot]) -> None:
        """What nobody waits for any more; its audio is about to be removed."""
        left = [x for x in shots.values() if x.sent is not None and not x.refused and not x.ends]
        self._cancels.cancel([shot.job_id for shot in left])

    def _read_results(self, shots: Sequence[Shot]) -> None:
        for shot in shots:
            if shot.sent is not None and not shot.refused and shot.result is None:
                shot.result = self._target.client.status(shot.job_id)


def _now(client: Client) -> str:
    """An event's id that none of ours is before."""
    seconds, _ = client.operator.time()
    return str(1000 * (seconds - 1))


@contextmanager
def _short_switches() -> Iterator[None]:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
