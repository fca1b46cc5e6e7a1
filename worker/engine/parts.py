"""A tape on a CPU, cut between its segments into parts that run side by side.

Threads that share one operation wait for each other at the end of it, a thousand times a tape;
parts wait for each other once. So many segments are shared out among the threads, and few have
several threads each, down to one alone, which has them all.
"""

import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from itertools import accumulate
from operator import itemgetter
from typing import TypeAlias, TypeVar

import structlog
import torch

from worker.engine.eager import EagerTapes, FinishedTape, SegmentOutput
from worker.model.model import Model
from worker.model.network import Block
from worker.model.tuning import fastest
from worker.tape import Segment

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
Inbox: TypeAlias = "queue.SimpleQueue[Callable[[], None] | None]"  # None ends its thread

_MEASURED_SLOTS = 1024  # of all parts together
_MOST_COUNTS = 16


class ComputeThreads:
    """Threads that compute side by side. Owned by one thread, which waits for them.

    They are daemons: a call that never returns must not keep the process from ending.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        inboxes: list[Inbox] = [queue.SimpleQueue() for _ in range(count)]
        for number, inbox in enumerate(inboxes):
            threading.Thread(
                target=_serve, args=(inbox,), name=f"compute-{number}", daemon=True
            ).start()
        self._inboxes = inboxes
        weakref.finalize(self, _end, inboxes)

    def run(self, calls: Sequence[Callable[[], Result]]) -> list[Result]:
        """What the calls give, at most one for each thread; torch has its share of them in each.

        Waits for all of them, then raises what the first that failed has raised. Raises ValueError
        for more calls than threads.
        """
        if len(calls) > self._count:
            raise ValueError(f"{len(calls)} calls on {self._count} threads")
        each, before = self._count // len(calls), torch.get_num_threads()
        futures = [
            _send(inbox, call, threads=each)
            for inbox, call in zip(self._inboxes, calls, strict=False)
        ]
        # No name is left for a future here: its error would keep itself, and all that the call
        # held, alive.
        try:
            wait(futures)
            return list(map(Future.result, futures))
        finally:
            futures.clear()
            # The number is a thread's own, but the last that was set is also what a new thread has.
            torch.set_num_threads(before)


def _send(inbox: Inbox, call: Callable[[], Result], *, threads: int) -> Future[Result]:
    future: Future[Result] = Future()
    inbox.put(partial(_compute, future, call, threads=threads))
    return future


def _serve(inbox: Inbox) -> None:
    while (work := inbox.get()) is not None:
        work()
        del work  # what it holds is not kept while waiting


def _end(inboxes: Sequence[Inbox]) -> None:
    for inbox in inboxes:
        inbox.put(None)


def _compute(future: Future[Result], call: Callable[[], Result], *, threads: int) -> None:
    try:
        torch.set_num_threads(threads)
        future.set_result(call())
    except BaseException as error:
        future.set_exception(error)
        del future  # as above: this frame is part of what an error keeps


class SplitTapes:
    """Runs a tape in as many parts as are fastest for its segments.

    `costs` says, for each number of parts up to that of the threads, what the same work takes in so
    many even ones, in any unit. Not thread-safe; owned by the infer thread.
    """

    def __init__(self, model: Model, threads: ComputeThreads, costs: Mapping[int, float]) -> None:
        self._gap = model.config.gap
        self._threads = threads
        self._costs = costs
        self._tapes = [EagerTapes(model) for _ in range(max(costs))]

    def slots_run(self, used_slots: int) -> int:
        """No more than are used."""
        return used_slots

    def even(self, slots: Sequence[int]) -> int:
        """As many as leave the threads least to wait for."""
        return evenest(slots, self._costs)

    def start(self, segments: Sequence[Segment]) -> FinishedTape:
        """Run a tape. Raises what the first part that failed has raised, once all have ended."""
        started = time.perf_counter()
        slots = [self._gap + segment.window.frames for segment in segments]
        shares = cheapest_shares(slots, self._costs)
        parts = self._threads.run(
            [
                partial(tapes.start, [segments[number] for number in share])
                for tapes, share in zip(self._tapes, shares, strict=False)
            ]
        )
        found: dict[int, SegmentOutput] = {}
        for share, part in zip(shares, parts, strict=True):
            found.update(zip(share, part.outputs(), strict=True))
        outputs = [found[number] for number in range(len(segments))]
        return FinishedTape(outputs, time.perf_counter() - started)


def cheapest_shares(slots: Sequence[int], costs: Mapping[int, float]) -> list[list[int]]:
    """Which segments go together, by their numbers; `slots` are what each of them takes.

    A tape takes as long as its longest part: where one segment outweighs the others, few parts of
    many threads are faster than many parts of few.
    """
    return _cheapest(slots, costs)[1]


def evenest(slots: Sequence[int], costs: Mapping[int, float]) -> int:
    """How many of the first segments cost least a slot, in parts; no less than half of a tape.

    Of seven of one length on two threads, one would do three and wait for the other's fourth.
    """
    used = list(accumulate(slots))
    counts = [count for count, sofar in enumerate(used, start=1) if 2 * sofar >= used[-1]]
    # The longest of those that are alike; on many threads, to look at all would take too long.
    return min(
        reversed(counts[-_MOST_COUNTS:]),
        key=lambda count: _cheapest(slots[:count], costs)[0] / used[count - 1],
    )


def _cheapest(slots: Sequence[int], costs: Mapping[int, float]) -> tuple[float, list[list[int]]]:
    """What a tape of these costs, in slots times the unit of `costs`, and how it is shared out."""

    def cost(parts: int, shares: list[list[int]]) -> float:
        longest = max(sum(slots[number] for number in share) for share in shares)
        return costs[parts] * parts * longest

    ways = {parts: shares_of(slots, min(parts, len(slots))) for parts in costs}
    return min(((cost(parts, shares), shares) for parts, shares in ways.items()), key=itemgetter(0))


def shares_of(slots: Sequence[int], parts: int) -> list[list[int]]:
    """The segments' numbers in so many shares of about equal slots: the longest are given first."""
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for number in sorted(range(len(slots)), key=slots.__getitem__, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += slots[number]
    return shares


def measure_costs(model: Model, threads: ComputeThreads, count: int) -> dict[int, float]:
    """Milliseconds of an MLP in 1, 2, 4 … parts and in as many as there are threads."""
    block = model.network.blocks[0]
    assert isinstance(block, Block)
    ways: dict[str, Callable[[], object]] = {}
    for parts in part_numbers(count):
        rows = torch.randn(_MEASURED_SLOTS // parts, model.config.embed_dim).to(model.dtype)
        ways[str(parts)] = partial(threads.run, [partial(_mlp, block, rows)] * parts)
    _, milliseconds = fastest(ways, model.device)
    log.info("model.tuned", what="parts", milliseconds=milliseconds)
    return {int(parts): cost for parts, cost in milliseconds.items()}


def part_numbers(threads: int) -> list[int]:
    """The numbers of parts that so many threads are shared out among, least first."""
    powers = [1 << exponent for exponent in range(threads.bit_length())]
    return [*[power for power in powers if power < threads], threads]


@torch.inference_mode()
def _mlp(block: Block, rows: torch.Tensor) -> torch.Tensor:
    return block.mlp(rows)
