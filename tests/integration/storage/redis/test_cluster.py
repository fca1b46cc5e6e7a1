"""The protocol on a real Redis Cluster: all keys under a hash tag, wherever their slot is."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from storage.queue.cancellation import Cancellations
from storage.queue.dead import DeadLetters, Selection
from storage.queue.entries import Begun, Delivery, Ending, Outcome, Verdict
from storage.queue.streams import JobStreams
from storage.queue.submission import Submissions
from storage.queue.webhooks import (
    DUE,
    RETRYING,
    Fate,
    Settled,
    WebhookLetters,
    Webhooks,
    release,
)
from storage.redis.connection import (
    RedisError,
    UnfitServer,
    check_server,
    connect,
    is_outage,
    uptime_seconds,
)
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job, Keys, Lane, Status
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.redis_servers import SERVERS, Cluster, binary
from tests.support.stream_workers import DONE, begin_one, new_streams

KEYS = Keys("{emo}")


@pytest.fixture(scope="module", params=SERVERS)
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Three masters, each with a third of the slots."""
    with Cluster(tmp_path_factory.mktemp("cluster"), binary(request.param)) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Any]:
    """A client of the emptied cluster."""
    for node in cluster.nodes:
        cluster.ask(node, "FLUSHALL")
    with connect(cluster.url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        yield client


def streams_of(client: Any, owner: str = "one", lease_seconds: float = 0.001) -> JobStreams:
    """One worker's side of the protocol."""
    return new_streams(JobStreams, client, KEYS, owner, lease_seconds)


def other_node(cluster: Cluster) -> EmbeddedRedis:
    """A node that holds none of our keys."""
    owner = cluster.owner("{emo}")
    return next(node for node in cluster.nodes if node is not owner)


def test_ends_are_told_on_a_cluster(client: Any) -> None:
    """With a callback; and what is given up on is sent again."""
    one = streams_of(client)
    client.set(KEYS.webhooks, "somebody's")
    client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "callback": "https://h/", "job": "job"})
    assert one.finish([(begin_one(one), DONE)]) == [Outcome.SETTLED]
    sender = Webhooks(client, keys=KEYS, owner="one")
    sender.create_group()
    (webhook,) = sender.read(9, block_seconds=0.01)
    assert sender.hold([webhook]) == []
    assert sender.settle([Settled(webhook, Fate.HAND, RETRYING, 2)]) == [True]
    assert release(client, KEYS, webhook.entry, 2)
    (webhook,) = sender.take(DUE, most=9)
    assert (webhook.job, webhook.count) == ("job", 2)
    assert sender.settle([Settled(webhook, Fate.DEAD, "HTTP 500")]) == [True]
    letters = WebhookLetters(client, keys=KEYS)
    (letter,) = letters.listed()
    assert letters.replay([letter.entry]) == [True]
    assert letters.waiting() == 1


def test_a_job_lives_its_whole_life_on_a_cluster(client: Any) -> None:
    """Submitted, read, tried again, taken over, given back, finished, seen by who waits for it."""
    check_server(client, KEYS.prefix)
    submissions = Submissions(client, keys=KEYS, max_backlog=10)
    for lane in Lane:
        assert submissions.submit(Job(f"job-{lane}", key="a.wav"), lane).enqueued
    one, two = streams_of(client), streams_of(client, "two")
    begun = one.begin(one.read(3))
    assert [each.verdict for each in begun] == [Verdict.RUN] * 3
    held = [(each.delivery, each.job_id) for each in begun]
    assert one.heartbeat(held) == []

    retried = one.retry(begun[0], delay_seconds=0, code="storage_unavailable", message="away")
    assert retried is Outcome.RETRYING
    assert one.promote().due == 1
    assert one.give_back([held[1]]) == 1
    taken: dict[tuple[Lane, str], Delivery] = {}  # and again, since its lease runs out too

    def both_taken() -> bool:
        taken.update({(one.lane, one.entry): one for one in two.reclaim(10).deliveries})
        return len(taken) == 2

    until(both_taken)
    begun = two.begin([*taken.values(), *two.read(1)])
    assert [each.verdict for each in begun] == [Verdict.RUN] * 3
    assert two.finish([(each, DONE) for each in begun]) == [Outcome.SETTLED] * 3
    ended = dict(submissions.wait([f"job-{lane}" for lane in Lane], timeout_seconds=10))
    assert {result["status"] for result in ended.values()} == {Status.DONE.value}
    two.leave()
    one.reap(idle_seconds=0)
    assert client.xinfo_consumers(KEYS.lane(Lane.HIGH), "workers") == []
    assert 0 <= uptime_seconds(client) < 3600


def test_any_one_node_leads_to_the_keys(cluster: Cluster, client: Any) -> None:
    """A URL that names only a node without our slot is enough, and no command runs twice."""
    other = other_node(cluster)
    with connect(
        f"redis+cluster://127.0.0.1:{other.port}", name="test", timeout_seconds=TIMEOUT_SECONDS
    ) as lost:
        streams_of(lost)
        lost.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav"})
    assert client.xlen(KEYS.lane(Lane.NORMAL)) == 1


def test_blocking_reads_wait_on_the_node_with_the_keys(client: Any) -> None:
    """A job that is enqueued later wakes a worker that waits over all three lanes."""
    streams = streams_of(client)
    found: list[Delivery] = []
    reader = threading.Thread(
        target=lambda: found.extend(streams.read_blocking(3, block_seconds=TIMEOUT_SECONDS / 2))
    )
    reader.start()
    until(lambda: client.info("clients")["blocked_clients"])
    client.xadd(KEYS.lane(Lane.BULK), {"key": "a.wav"})
    reader.join()
    assert [delivery.lane for delivery in found] == [Lane.BULK]


def test_a_client_follows_the_slot_to_another_node(cluster: Cluster, client: Any) -> None:
    """Given a slot that moves while a job is in flight, its worker settles it at the new node."""
    client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": "moves"})
    streams = streams_of(client, lease_seconds=30)
    begun = begin_one(streams)
    move(cluster, cluster.owner("{emo}"), other_node(cluster))
    assert streams.heartbeat([(begun.delivery, "moves")]) == []
    assert settle(streams, begun) is Outcome.SETTLED
    assert client.hget(KEYS.result("moves"), "status") == b"done"


def retry(client: Any, begun: Begun) -> None:
    """A job is put aside for a while."""
    streams_of(client).retry(begun, delay_seconds=0, code="storage_unavailable", message="away")


def cancel(client: Any, begun: Begun) -> None:
    """A job is cancelled."""
    Cancellations(client, keys=KEYS, result_ttl_seconds=60, results_maxlen=9).cancel(begun.job_id)


def submit(client: Any, begun: Begun) -> None:
    """A job that has failed is submitted again."""
    Submissions(client, keys=KEYS, max_backlog=9).submit(Job("failed", key="a.wav"), Lane.NORMAL)


def replay(client: Any, begun: Begun) -> None:
    """A dead letter's job is sent again."""
    letters = DeadLetters(client, keys=KEYS, max_backlog=9)
    (letter,) = letters.select(Selection())
    letters.replay(letter.entry)


@pytest.mark.parametrize("act", [retry, cancel, submit, replay])
def test_nothing_is_lost_while_the_slot_is_on_its_way(
    cluster: Cluster, client: Any, act: Callable[[Any, Begun], None]
) -> None:
    """Given a slot whose new keys belong elsewhere, a script refuses before it writes anything."""
    streams = streams_of(client, lease_seconds=30)
    for job in ("failed", "dead", "in-flight"):
        client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": job})
    failed, dead, begun = streams.begin([*streams.read(2), *streams.read(1)])
    error = {"error_code": "internal", "error": "for a test"}
    endings = [
        (failed, Ending(Status.FAILED, error)),
        (dead, Ending(Status.DEAD, error, dead_reason="internal")),
    ]
    assert streams.finish(endings) == [Outcome.SETTLED] * 2
    client.zadd(KEYS.delayed, {"earlier": 2e12})
    source, target = cluster.owner("{emo}"), other_node(cluster)
    before = everything(client)
    slot = begin_move(cluster, source, target)
    with pytest.raises(RedisError) as refused:
        act(client, begun)
    assert is_outage(refused.value)
    assert everything(client) == before
    end_move(cluster, slot, source, target)
    act(client, begun)
    assert everything(client) != before


def everything(client: Any) -> dict[bytes, bytes]:
    """All keys of the node that we are at, as it would dump them."""
    return {key: client.dump(key) for key in client.keys("*")}


def test_a_node_that_is_gone_is_an_outage(cluster: Cluster, client: Any) -> None:
    """Until it is back, and then the client goes on; with it away, others are asked in vain."""
    streams = streams_of(client)
    owner = cluster.owner("{emo}")
    owner.stop()
    try:
        for _ in range(3):
            with pytest.raises(RedisError) as refused:
                client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav"})
            assert is_outage(refused.value)
    finally:
        owner.start()
    until(lambda: answers(client))
    client.xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav"})
    assert len(streams.read(10)) == 1


def test_a_node_that_left_the_cluster_is_left(cluster: Cluster, tmp_path: Path) -> None:
    """Given a node that is up and serves nothing any more, no client stays with it."""
    with Cluster.node(tmp_path, cluster.program) as lone, ExitStack() as running:
        url = f"redis+cluster://127.0.0.1:{lone.port},127.0.0.1:{cluster.nodes[0].port}"
        for _ in range(10):  # each begins with either
            client = connect(url, name="test", timeout_seconds=TIMEOUT_SECONDS)
            until(partial(answers, running.enter_context(client)))


def test_a_cluster_must_be_named_as_one(cluster: Cluster, client: Any) -> None:
    """redis:// would work until the slot moves; a single server is no cluster either."""
    with (
        connect(cluster.owner("{emo}").url, name="test", timeout_seconds=TIMEOUT_SECONDS) as plain,
        pytest.raises(UnfitServer, match=r"write redis\+cluster://"),
    ):
        check_server(plain, KEYS.prefix)
    with pytest.raises(UnfitServer, match="must be a hash tag"):
        check_server(client, "emo")


def settle(streams: JobStreams, begun: Begun) -> Outcome:
    """Finish as a worker does: again, as long as there is an outage."""

    def outcome() -> Outcome | None:
        (said,) = streams.finish([(begun, DONE)])
        if isinstance(said, Outcome):
            return said
        assert is_outage(said)
        return None

    return cast(Outcome, until(outcome))


def answers(client: Any) -> bool:
    """Whether the cluster serves our keys again."""
    try:
        client.xlen(KEYS.lane(Lane.NORMAL))
    except RedisError as error:
        assert is_outage(error)
        return False
    return True


def begin_move(cluster: Cluster, source: EmbeddedRedis, target: EmbeddedRedis) -> int:
    """Put our slot on its way from one node to another, its keys still at the first."""
    slot = int(cluster.ask(source, "CLUSTER KEYSLOT", "{emo}"))
    names = {node: cluster.ask(node, "CLUSTER MYID").decode() for node in (source, target)}
    cluster.ask(target, "CLUSTER SETSLOT", slot, "IMPORTING", names[source])
    cluster.ask(source, "CLUSTER SETSLOT", slot, "MIGRATING", names[target])
    return slot


def end_move(cluster: Cluster, slot: int, source: EmbeddedRedis, target: EmbeddedRedis) -> None:
    """Move the keys, and tell all nodes."""
    keys = cluster.ask(source, "CLUSTER GETKEYSINSLOT", slot, 1000)
    if keys:
        cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", *keys)
    name = cluster.ask(target, "CLUSTER MYID").decode()
    for node in (target, source, *cluster.nodes):
        cluster.ask(node, "CLUSTER SETSLOT", slot, "NODE", name)


def move(cluster: Cluster, source: EmbeddedRedis, target: EmbeddedRedis) -> None:
    """Move our slot, keys and all."""
    end_move(cluster, begin_move(cluster, source, target), source, target)
