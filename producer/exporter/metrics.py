"""The state of the queue as metrics, read from Redis whenever somebody scrapes: never stale."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.queue.batches import Batching
from storage.queue.bulks import standing
from storage.queue.entries import Ends
from storage.queue.lanes import Lanes, Overview
from storage.queue.steps import Command, Driver, Steps
from storage.queue.workers import Fleet, State, Worker, Workers
from storage.redis.connection import Client, RedisError
from storage.wire.messages import Keys, Status

log = structlog.get_logger(__name__)

_OF_WORKER = ["worker"]
# Name, what it is, and its labels.
_GAUGES: dict[str, tuple[str, list[str]]] = {
    "emostream_redis_up": ("1 where Redis answered this scrape; 0: nothing else is told.", []),
    "emostream_backlog": (
        "Jobs that want a worker: queued, in flight, and retries that wait, but for what waits in "
        "a paused lane. Scale on it.",
        [],
    ),
    "emostream_queue_jobs": (
        "Jobs of a lane that are `queued`, `in_flight`, `delayed` (a retry waits) or `dead`.",
        ["lane", "state"],
    ),
    "emostream_queue_estimated": (
        "1 where each lane's share of that state is an estimate.",
        ["state"],
    ),
    "emostream_dead_letter_newest_seconds": (
        "Age of the newest dead letter: for how long no job has been given up on.",
        [],
    ),
    "emostream_queue_oldest_seconds": (
        "Age of the oldest job of a lane that is `queued` or `in_flight`.",
        ["lane", "state"],
    ),
    "emostream_queue_paused_seconds": (
        "For how long a lane has been paused; 0: it is not.",
        ["lane"],
    ),
    "emostream_batches_unfinished": (
        "Batches that are not complete: `sealed`, or still `open` to more jobs.",
        ["status"],
    ),
    "emostream_batch_jobs_unfinished": ("Jobs of those that are known and have not ended.", []),
    "emostream_batches_unread": (
        "More of those batches, which neither counts: they look at 10,000.",
        [],
    ),
    "emostream_bulks": (
        "Bulks by status; `waiting` are running, and say what for (`bulk show`).",
        ["status"],
    ),
    "emostream_bulk_silent_seconds": (
        "Since control last got on with a bulk that is running, ending or cancelling, of the one "
        "that has stood longest; 0: there is none. In a full lane none gets on.",
        [],
    ),
    "emostream_webhooks_waiting": ("Webhooks that have not been delivered yet.", []),
    "emostream_webhooks_dead": ("Webhooks that were given up on, and wait for somebody.", []),
    "emostream_workers": ("Workers that spoke in the last three leases, by state.", ["state"]),
    "emostream_workers_variants": (
        "How many different ones they have: `model`, `dtype`, `version`, `settings`. More than 1: "
        "they disagree.",
        ["of"],
    ),
    "emostream_worker_info": (
        "1 for each worker, with what it runs.",
        [*_OF_WORKER, "host", "state", "version", "model", "dtype", "device", "fingerprint"],
    ),
    "emostream_worker_silent_seconds": ("Since its last word.", _OF_WORKER),
    "emostream_worker_jobs_in_flight": ("Jobs that it holds.", _OF_WORKER),
    "emostream_worker_clips_per_second": ("Jobs done a second, lately.", _OF_WORKER),
    "emostream_worker_audio_seconds_per_second": ("Seconds of audio a second, lately.", _OF_WORKER),
    "emostream_worker_latency_seconds": ("Mean time from begin to end, lately.", _OF_WORKER),
    "emostream_worker_tape_fill_ratio": ("How full its tapes were, lately.", _OF_WORKER),
    "emostream_worker_device_ratio": (
        "Share of the time that its device worked on tapes.",
        _OF_WORKER,
    ),
    "emostream_worker_gpu_verdict": (
        "1 for what its GPU is found to be.",
        [*_OF_WORKER, "gpu", "verdict"],
    ),
}
_COUNTERS: dict[str, tuple[str, list[str]]] = {
    "emostream_batches_completed": ("Batches that became complete since the exporter began.", []),
    "emostream_batch_jobs_ended": ("Jobs of those, by how they ended.", ["status"]),
}

Families = Mapping[str, GaugeMetricFamily | CounterMetricFamily]


class QueueMetrics(Collector):
    """Asks Redis at each scrape. Where that does not answer, nothing is told but that."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._keys = keys
        self._lanes = Lanes(client, keys=keys)
        self._driver = Driver(client)
        self._workers = Workers(keys)
        self._batching = Batching(keys, Ends())
        self._last_batch: str | None = None
        self._batches = 0
        self._batch_jobs: Counter[str] = Counter()
        self._away = False
        self._lock = threading.Lock()

    def collect(self) -> Iterator[Metric]:
        """All of it, as it is now."""
        with self._lock:
            yield from self._collect().values()

    def _collect(self) -> Families:
        families = _families()
        try:
            lanes = self._lanes.look()
            fleet = self._driver.run(self._workers.look())
            waiting = self._driver.run(_entries(self._keys.webhooks))
            given_up = self._driver.run(_entries(self._keys.dead_webhooks))
            bulks = self._driver.run(standing(self._keys))
            batches = self._driver.run(self._batching.unfinished())
            self._follow_batches()
        except RedisError as error:
            if not self._away:  # once an outage
                log.error("exporter.redis_away", error=str(error))
            self._away = True
            families["emostream_redis_up"].add_metric([], 0)
            return families
        if self._away:
            log.info("exporter.redis_back")
        self._away = False
        families["emostream_redis_up"].add_metric([], 1)
        families["emostream_webhooks_waiting"].add_metric([], waiting)
        families["emostream_webhooks_dead"].add_metric([], given_up)
        for status, count in bulks.counts.items():
            families["emostream_bulks"].add_metric([status], count)
        families["emostream_bulk_silent_seconds"].add_metric([], bulks.silent_seconds)
        for status, count in (("open", batches.open), ("sealed", batches.sealed)):
            families["emostream_batches_unfinished"].add_metric([status], count)
        families["emostream_batch_jobs_unfinished"].add_metric([], batches.jobs)
        families["emostream_batches_unread"].add_metric([], batches.unread)
        _fill_lanes(families, lanes)
        _fill_workers(families, fleet)
        families["emostream_batches_completed"].add_metric([], self._batches)
        for status in (each.value for each in Status if each.terminal):
            families["emostream_batch_jobs_ended"].add_metric([status], self._batch_jobs[status])
        return families

    def _follow_batches(self) -> None:
        """Count the events since the last scrape; what there was before is not ours."""
        while True:
            self._last_batch, ended = self._driver.run(self._batching.ended(self._last_batch))
            for state in ended:
                self._batches += 1
                self._batch_jobs.update({each.value: n for each, n in state.ends.items()})
            if not ended:
                return


def _entries(stream: str) -> Steps[int]:
    """How many there are in the stream; 0 where there is none."""
    kind = yield Command(("TYPE", stream))
    if kind != b"stream":
        return 0
    return int((yield Command(("XLEN", stream))))


def catalogue() -> Iterable[Metric]:
    """Every metric, without samples: for docs/metrics.md."""
    return _families().values()


def _families() -> Families:
    gauges = {
        name: GaugeMetricFamily(name, what, labels=labels)
        for name, (what, labels) in _GAUGES.items()
    }
    counters = {
        name: CounterMetricFamily(name, what, labels=labels)
        for name, (what, labels) in _COUNTERS.items()
    }
    return {**gauges, **counters}


def _fill_lanes(families: Families, state: Overview) -> None:
    jobs, oldest = families["emostream_queue_jobs"], families["emostream_queue_oldest_seconds"]
    for lane in state.lanes:
        name = lane.lane.value
        for of, count in (
            *(("queued", lane.queued), ("in_flight", lane.in_flight)),
            *(("delayed", lane.delayed), ("dead", lane.dead)),
        ):
            jobs.add_metric([name, of], count)
        for of, seconds in (
            ("queued", lane.oldest_queued_seconds),
            ("in_flight", lane.oldest_in_flight_seconds),
        ):
            if seconds is not None:
                oldest.add_metric([name, of], seconds)
        paused = state.paused_seconds.get(lane.lane, 0.0)
        families["emostream_queue_paused_seconds"].add_metric([name], paused)
    for of, estimated in (("delayed", state.delayed_estimated), ("dead", state.dead_estimated)):
        families["emostream_queue_estimated"].add_metric([of], estimated)
    if state.newest_dead_seconds is not None:
        newest = families["emostream_dead_letter_newest_seconds"]
        newest.add_metric([], state.newest_dead_seconds)
    families["emostream_backlog"].add_metric([], backlog(state))


def backlog(state: Overview) -> int:
    """Jobs that want a worker. What waits in a paused lane wants none until it is resumed."""
    waiting = sum(
        lane.queued + lane.delayed for lane in state.lanes if lane.lane not in state.paused_seconds
    )
    if not state.paused_seconds:  # exact, where the lanes' shares are estimates
        waiting = sum(lane.queued for lane in state.lanes) + state.delayed
    return waiting + sum(lane.in_flight for lane in state.lanes)


def _fill_workers(families: Families, fleet: Fleet) -> None:
    by_state = Counter(worker.state for worker in fleet.workers)
    for state in sorted({*by_state, *(each.value for each in State)}):
        families["emostream_workers"].add_metric([state], by_state[state])
    for of, different in (
        ("model", {(each.model, each.revision) for each in fleet.workers}),
        ("dtype", {each.dtype for each in fleet.workers}),
        ("version", {each.version for each in fleet.workers}),
        ("settings", {each.fingerprint for each in fleet.workers}),
    ):
        families["emostream_workers_variants"].add_metric([of], len(different))
    for worker in fleet.workers:
        _fill_worker(families, worker)


def _fill_worker(families: Families, worker: Worker) -> None:
    about = (worker.host, worker.state, worker.version, worker.model, worker.dtype)
    info = [worker.name, *about, worker.device, worker.fingerprint]
    families["emostream_worker_info"].add_metric(info, 1)
    latency = None if worker.latency_ms is None else worker.latency_ms / 1000
    for name, value in (
        ("silent_seconds", worker.silent_seconds),
        ("jobs_in_flight", worker.in_flight),
        ("clips_per_second", worker.clips_a_second),
        ("audio_seconds_per_second", worker.audio_seconds_a_second),
        ("latency_seconds", latency),
        ("tape_fill_ratio", worker.tape_fill),
        ("device_ratio", worker.device_share),
    ):
        if value is not None:
            families[f"emostream_worker_{name}"].add_metric([worker.name], value)
    if worker.gpu:
        verdict = [worker.name, worker.gpu.uuid, worker.gpu.verdict]
        families["emostream_worker_gpu_verdict"].add_metric(verdict, 1)
