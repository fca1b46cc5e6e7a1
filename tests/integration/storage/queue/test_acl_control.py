"""deploy/redis/*.acl on real servers: control and monitors can do their whole work."""

from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from producer.control.worker import ControlScheduler
from producer.exporter.metrics import QueueMetrics
from storage.queue.batches import Batching
from storage.queue.bulks import Bulks, BulkStatus
from storage.queue.entries import Ends, Outcome
from storage.queue.recent import RecentEnds
from storage.queue.steps import Driver
from storage.queue.webhooks import DUE, RETRYING, Fate, Settled, WebhookLetters, Webhooks, release
from storage.queue.workers import Words
from storage.redis.connection import check_server
from storage.wire.messages import Lane
from tests.support.acl import CONTROL, KEYS, MONITOR, OPERATOR, PRODUCER, WORKER, Users
from tests.support.control import Control, Until, files
from tests.support.stream_workers import DEAD, DONE, begin_one


def test_control_can_do_its_work(users: Users, tmp_path: Path) -> None:
    """Bulks that operators submit and stop; and rq's tries, failures and abandoned jobs."""
    files(tmp_path / "store" / "a", 30)
    bulks = Bulks(users[OPERATOR], KEYS)
    source = {"prefix": "a/"}
    for name in ("b", "stopped"):
        bulks.create(name, Lane.BULK, source, {})
    control = Control(users.url(CONTROL), tmp_path / "store", bulk_page_keys=10)
    check_server(users[CONTROL], KEYS.prefix)
    control.round()
    bulks.change("stopped", [BulkStatus.RUNNING], status=BulkStatus.CANCELLING)
    Driver(users[OPERATOR]).run(Batching(KEYS, Ends()).cancel("stopped"))
    control.functions["fail"] = lambda: 1 / 0
    control.queue.send("fail", job_id="fails", retry_seconds=[0, 1])
    control.queue.send("fail", job_id="later", after_seconds=1)
    users[CONTROL].lpush("rq:queue:emo", "gone")
    control.run()
    control.feeder.give_out()
    scheduler = ControlScheduler(control.queue, users[CONTROL])
    scheduler(Until(lambda: not users["admin"].zcard("rq:scheduled:emo")))
    control.work()
    control.queue.send("fail", job_id="abandoned", retry_seconds=[0])
    (abandoned,) = control.abandon()
    users["admin"].zadd("rq:wip:emo", {abandoned: 1})
    control.queue.send("fail", job_id="stuck")
    control.run()
    assert len(control.failures) == 7
    assert [bulks.get(name).status.value for name in ("b", "stopped")] == [  # type: ignore[union-attr]
        "done",
        "cancelled",
    ]
    assert [bulk.id for bulk in bulks.all()] == ["b", "stopped"]
    assert bulks.refused("b") == []
    assert users["admin"].acl_log() == []
    control.close()


def test_control_can_send_webhooks(users: Users) -> None:
    """Also what a dead sender held, what is given up on, and where a stream is none."""
    fields = {"callback": "https://h/", "job": "x", "run": "1", "status": "done"}
    users[WORKER].xadd(KEYS.webhooks, fields)
    users[PRODUCER].xadd("emo:jobs", {"key": "a.wav", "callback": "https://h/", "job": "y"})
    streams = users.streams()
    assert streams.finish([(begin_one(streams), DONE)]) == [Outcome.SETTLED]
    client = users[CONTROL]
    dead, sender = (Webhooks(client, keys=KEYS, owner=owner) for owner in ("dead", "one"))
    dead.create_group()
    assert len(dead.read(1, block_seconds=0.01)) == 1
    held = [*sender.read(9, block_seconds=0.01), *sender.take("dead", most=9)]
    assert [one.job for one in held] == ["y", "x"]
    assert sender.hold(held) == []
    assert sender.consumers() == {"one": 2}
    users["admin"].set(KEYS.dead_webhooks, "somebody's")
    first, second = held
    assert sender.settle([Settled(first, Fate.DEAD, "HTTP 500")]) == [True]
    assert sender.settle([Settled(second, Fate.HAND, RETRYING, 2)]) == [True]
    assert release(client, KEYS, second.entry, 2)
    assert not release(client, KEYS, second.entry, 2)
    (due,) = sender.take(DUE, most=9)
    assert sender.settle([Settled(due, Fate.DONE)]) == [True]
    sender.reap(idle_seconds=0, leaving=True)
    letters = WebhookLetters(users[OPERATOR], keys=KEYS)
    (letter,) = letters.listed()
    assert letters.replay([letter.entry]) == [True]
    assert letters.waiting() == 1
    assert (len(letters), letters.purge(["1-1"])) == (0, 0)
    assert users["admin"].acl_log() == []


def test_a_monitor_can_do_its_work(users: Users) -> None:
    """All that the exporter and `top` look at, with every kind of thing there."""
    check_server(users[MONITOR], KEYS.prefix)
    worker = users.streams()
    for job in ("dies", "retried", "runs"):
        users[PRODUCER].xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": job, "batch": "b"})
    dies, retried, _ = worker.begin([*worker.read(1), *worker.read(1), *worker.read(1)])
    worker.finish([(dies, DEAD)])
    worker.retry(retried, delay_seconds=60, code="internal", message="x")
    Words(users[WORKER], KEYS, "one", lease_seconds=30).tell({"state": "ready"})
    for stream in (KEYS.webhooks, KEYS.dead_webhooks):
        users["admin"].xadd(stream, {"job": "dies"})
    Bulks(users[OPERATOR], KEYS).create("b", Lane.BULK, {"prefix": ""}, {})
    told = generate_latest(registry_of(users[MONITOR])).decode()
    assert "emostream_redis_up 1.0" in told
    assert "emostream_backlog 2.0" in told
    assert "emostream_batch_jobs_unfinished 2.0" in told
    assert 'emostream_bulks{status="running"} 1.0' in told
    assert "emostream_webhooks_waiting 1.0" in told
    assert "emostream_webhooks_dead 1.0" in told
    assert [end.failed for end in RecentEnds(users[MONITOR], KEYS).look()]
    assert users["admin"].acl_log() == []


def registry_of(client: Any) -> CollectorRegistry:
    """The exporter's metrics by that client."""
    registry = CollectorRegistry()
    registry.register(QueueMetrics(client, KEYS))
    return registry
