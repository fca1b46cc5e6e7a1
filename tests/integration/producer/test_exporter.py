"""The queue as metrics, on every server: counted, told, and never stale."""

from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from producer.exporter.metrics import QueueMetrics
from storage.queue.batches import Batching
from storage.queue.bulks import Bulks, BulkStatus
from storage.queue.entries import Ending, Ends
from storage.queue.steps import Driver
from storage.queue.streams import JobStreams
from storage.queue.workers import Words
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys, Lane
from tests.support.ports import own_port
from tests.support.stream_workers import DEAD, DONE, begin_one, new_streams, now_ms

MOVING = (BulkStatus.RUNNING, BulkStatus.ENDING, BulkStatus.CANCELLING)


class Scrapes:
    """An exporter, asked in this process."""

    def __init__(self, client: Any, keys: Keys) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(QueueMetrics(client, keys))

    def __call__(self) -> dict[str, float]:
        """Every sample, as `name{a,b}` with its labels' values in order."""
        return {
            f"{sample.name}{{{','.join(sample.labels.values())}}}".removesuffix("{}"): sample.value
            for family in self.registry.collect()
            for sample in family.samples
        }


@pytest.fixture
def scrape(client: Any, keys: Keys) -> Scrapes:
    """Of the emptied server."""
    return Scrapes(client, keys)


@pytest.fixture
def worker(client: Any, keys: Keys) -> JobStreams:
    """A worker's side of the protocol."""
    return new_streams(JobStreams, client, keys, "one", 30)


def test_an_empty_queue_has_no_backlog(scrape: Scrapes) -> None:
    """No streams, no groups, no webhooks: zeros, and no ages."""
    told = scrape()
    assert (told["emostream_redis_up"], told["emostream_backlog"]) == (1, 0)
    assert told["emostream_webhooks_waiting"] == told["emostream_webhooks_dead"] == 0
    assert told["emostream_workers{ready}"] == 0
    assert not [name for name in told if name.startswith("emostream_queue_oldest_seconds")]
    assert "emostream_dead_letter_newest_seconds" not in told


def test_the_backlog_counts_retries_that_wait(
    client: Any, keys: Keys, scrape: Scrapes, worker: JobStreams
) -> None:
    """Or they would be stranded where nobody runs: they are in no lane."""
    for job in ("queued", "runs", "waits", "dies"):
        client.xadd(keys.lane(Lane.NORMAL), {"key": "a.wav", "job": job})
    _, waits, dies = (begin_one(worker) for _ in range(3))
    worker.retry(waits, delay_seconds=600, code="internal", message="x")
    worker.finish([(dies, DEAD)])
    told = scrape()
    for state in ("queued", "in_flight", "delayed", "dead"):
        assert told[f"emostream_queue_jobs{{normal,{state}}}"] == 1
    assert told["emostream_backlog"] == 3
    assert told["emostream_queue_oldest_seconds{normal,queued}"] >= 0
    assert told["emostream_dead_letter_newest_seconds"] >= 0
    client.delete(keys.lane(Lane.NORMAL))
    assert scrape()["emostream_backlog"] == 1


def test_what_waits_in_a_paused_lane_wants_no_worker(
    client: Any, keys: Keys, scrape: Scrapes, worker: JobStreams
) -> None:
    """Workers would be started to look at it; what runs still counts."""
    for lane in (Lane.BULK, Lane.BULK, Lane.HIGH):
        client.xadd(keys.lane(lane), {"key": "a.wav"})
    held = [begin_one(worker) for _ in range(3)]
    client.hset(keys.paused, Lane.BULK.value, 1)
    client.xadd(keys.lane(Lane.BULK), {"key": "a.wav"})
    assert scrape()["emostream_backlog"] == len(held)
    assert scrape()["emostream_queue_paused_seconds{bulk}"] > 0
    client.delete(keys.paused)
    assert scrape()["emostream_backlog"] == 4


def test_batches_that_complete_are_counted(
    client: Any, keys: Keys, scrape: Scrapes, worker: JobStreams
) -> None:
    """From the exporter's start on: of what was before, others have counted."""
    driver, batching = Driver(client), Batching(keys, Ends())

    def complete(batch: str, *ends: Ending) -> None:
        for _ in ends:
            client.xadd(keys.lane(Lane.NORMAL), {"key": "a.wav", "batch": batch})
        worker.finish([(begin_one(worker), end) for end in ends])
        driver.run(batching.seal(batch, len(ends)))

    complete("before", DONE)
    assert scrape()["emostream_batches_completed_total"] == 0
    complete("one", DONE, DEAD)
    complete("two", DONE)
    client.xadd(keys.batches, {"event": "complete", "done": "many"})  # by somebody's hand
    for _ in range(2):
        told = scrape()
        assert told["emostream_batches_completed_total"] == 2
        assert told["emostream_batch_jobs_ended_total{done}"] == 2
        assert told["emostream_batch_jobs_ended_total{dead}"] == 1


def test_batches_that_are_not_complete_are_counted(
    client: Any, keys: Keys, scrape: Scrapes, worker: JobStreams
) -> None:
    """With their jobs, and by no id: of those there is no end."""
    driver, batching = Driver(client), Batching(keys, Ends())
    for job, batch in (("a", "id-one"), ("b", "id-one"), ("c", "id-two")):
        client.xadd(keys.lane(Lane.NORMAL), {"key": "a.wav", "job": job, "batch": batch})
    first, *_ = (begin_one(worker) for _ in range(3))
    driver.run(batching.seal("id-two", 1))
    told = scrape()
    assert told["emostream_batches_unfinished{open}"] == 1
    assert told["emostream_batches_unfinished{sealed}"] == 1
    assert told["emostream_batch_jobs_unfinished"] == 3
    worker.finish([(first, DONE)])
    told = scrape()
    assert told["emostream_batch_jobs_unfinished"] == 2
    assert told["emostream_batches_unread"] == 0
    assert not [name for name in told if "id-" in name]


def test_bulks_are_counted_by_what_they_do(client: Any, keys: Keys, scrape: Scrapes) -> None:
    """And how long control has not got on with one: paused or failed ones it is not to."""
    bulks = Bulks(client, keys)
    told = scrape()
    assert {told[f"emostream_bulks{{{each.value}}}"] for each in BulkStatus} == {0}
    assert told["emostream_bulk_silent_seconds"] == 0
    hour_ms = 3_600_000
    for number, status in enumerate(BulkStatus, 1):
        for count in range(number):
            bulks.create(f"{status}-{count}", Lane.BULK, {"prefix": ""}, {})
            bulks.change(f"{status}-{count}", [BulkStatus.RUNNING], status=status)
            ago_ms = 0 if status in MOVING else 5 * hour_ms
            key = keys.bulk(f"{status}-{count}")
            client.hset(key, "updated_at_ms", now_ms(client) - ago_ms)
    bulks.create("waits", Lane.BULK, {"prefix": ""}, {})
    bulks.change("waits", [BulkStatus.RUNNING], error="waits: the store is away")
    client.zadd(keys.bulks, {"gone": 1, "odd": 2})
    client.set(keys.bulk("odd"), "of somebody else")
    told = scrape()
    for number, status in enumerate(BulkStatus, 1):
        assert told[f"emostream_bulks{{{status.value}}}"] == number
    assert told["emostream_bulks{waiting}"] == 1
    assert 0 <= told["emostream_bulk_silent_seconds"] < 3600
    client.hset(keys.bulk("running-0"), "updated_at_ms", now_ms(client) - 2 * hour_ms)
    assert 7200 <= scrape()["emostream_bulk_silent_seconds"] < 10_800
    client.hset(keys.bulk("running-0"), "updated_at_ms", now_ms(client))
    for odd in ("", "nan", "-inf", "-1e300", "9" * 400, "0x1"):
        client.hset(keys.bulk("waits"), "updated_at_ms", odd)
        assert 0 <= scrape()["emostream_bulk_silent_seconds"] < 7200
    client.delete(keys.bulks)
    client.set(keys.bulks, "of somebody else")
    assert scrape()["emostream_bulks{waiting}"] == 0


def test_webhooks_are_counted_where_there_are_any(client: Any, keys: Keys, scrape: Scrapes) -> None:
    """What stands under their name and is none counts as none."""
    for entries, stream in enumerate((keys.webhooks, keys.dead_webhooks), 1):
        for _ in range(entries):
            client.xadd(stream, {"job": "a"})
    told = scrape()
    assert (told["emostream_webhooks_waiting"], told["emostream_webhooks_dead"]) == (1, 2)
    for stream in (keys.webhooks, keys.dead_webhooks):
        client.delete(stream)
        client.set(stream, "x")
    told = scrape()
    assert (told["emostream_webhooks_waiting"], told["emostream_webhooks_dead"]) == (0, 0)


def test_workers_are_told_of_by_their_own_words(client: Any, keys: Keys, scrape: Scrapes) -> None:
    """How many in which state, what each runs, and where they disagree."""
    common = {"model": "m", "dtype": "float32", "version": "0.1.0", "host": 'a\nb"c'}
    Words(client, keys, "one", lease_seconds=30).tell(
        {**common, "state": "ready", "clips_per_s": 1.5, "latency_ms": 250, "fingerprint": "f"}
    )
    Words(client, keys, "two", lease_seconds=30).tell(
        {**common, "state": "sick", "fingerprint": "g", "gpu_uuid": "GPU-1", "gpu_verdict": "idle"}
    )
    told = scrape()
    assert (told["emostream_workers{ready}"], told["emostream_workers{sick}"]) == (1, 1)
    assert told["emostream_workers_variants{model}"] == 1
    assert told["emostream_workers_variants{settings}"] == 2
    assert told["emostream_worker_clips_per_second{one}"] == 1.5
    assert told["emostream_worker_latency_seconds{one}"] == 0.25
    assert "emostream_worker_latency_seconds{two}" not in told
    assert told["emostream_worker_gpu_verdict{two,GPU-1,idle}"] == 1


def test_an_outage_is_told_and_no_stale_figure(keys: Keys, tmp_path: Any) -> None:
    """Nothing but that Redis is away; said once, and all of it again when it is back."""
    port = own_port()
    with (
        connect(f"redis://127.0.0.1:{port}", name="test", timeout_seconds=60) as client,
        capture_logs() as logs,
    ):
        scrape = Scrapes(client, keys)
        with server(tmp_path, port):
            client.xadd(keys.lane(Lane.NORMAL), {"key": "a.wav"})
            assert scrape()["emostream_backlog"] == 1
        for _ in range(2):
            assert scrape() == {"emostream_redis_up": 0}
        with server(tmp_path, port):
            assert scrape()["emostream_redis_up"] == 1
    assert [each["event"] for each in logs] == ["exporter.redis_away", "exporter.redis_back"]


def server(directory: Any, port: int) -> EmbeddedRedis:
    """One on that port."""
    return EmbeddedRedis(directory, port=port)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A printed log costs more than the test."""
    with capture_logs():
        yield
