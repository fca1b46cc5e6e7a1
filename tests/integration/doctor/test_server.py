"""Redis servers that are not as they should be."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from storage.queue import rights
from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.acl import ACL_FILE
from tests.support.findings import found, one
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.ports import own_port
from worker.doctor.findings import State
from worker.doctor.server import Server
from worker.settings import WorkerSettings

# What is needed to connect at all, to a cluster, or to another database.
CONNECTING = {"client|setname", "cluster|slots", "select"}


@pytest.fixture
def server(client: Any) -> Iterator[Any]:
    """A client of a server that is all right, which is put right again afterwards."""
    usual = {"maxmemory": 100_000_000, "maxmemory-policy": "noeviction", "appendonly": "yes"}
    for name, value in usual.items():
        client.config_set(name, value)
    before = list(client.scan_iter("*"))
    yield client
    client.replicaof("NO", "ONE")
    client.flushall()
    for name, value in {**usual, "maxmemory": 0}.items():
        client.config_set(name, value)
    assert before == []


def category(redis_server: EmbeddedRedis, *, url: str = "", **options: Any) -> Any:
    """The checks of that server, whose lines are quickly said."""
    chosen = {name: options.pop(name) for name in ("rate", "clock") if name in options}
    settings = WorkerSettings(redis_url=url or redis_server.url, **options)
    return Server(settings, **chosen).category()


def test_a_server_as_it_should_be(redis_server: EmbeddedRedis, server: Any) -> None:
    """All is well, and nothing was left there."""
    said = found(category(redis_server))
    assert set(said) == {
        *("answers", "state", "policy", "persistence", "memory", "clock", "rights"),
    }
    assert {state for lines in said.values() for state, _ in lines} == {State.OK}
    assert list(server.scan_iter("*")) == []


def test_a_server_that_evicts(redis_server: EmbeddedRedis, server: Any) -> None:
    """It throws jobs away when it is full: a fault, unless it never is."""
    server.config_set("maxmemory-policy", "allkeys-lru")
    state, text = one(category(redis_server), "policy")
    assert (state, "allkeys-lru" in text) == (State.FAIL, True)
    server.config_set("maxmemory", 0)
    assert one(category(redis_server), "policy")[0] is State.WARN


def test_a_server_without_an_append_only_file(redis_server: EmbeddedRedis, server: Any) -> None:
    """A restart loses jobs: a fault where that must not be."""
    server.config_set("appendonly", "no")
    state, text = one(category(redis_server), "persistence")
    assert (state, "appendonly yes" in text) == (State.WARN, True)
    strict = category(redis_server, require_durable_redis=True)
    assert one(strict, "persistence")[0] is State.FAIL


def test_a_server_that_is_too_small(redis_server: EmbeddedRedis, server: Any) -> None:
    """For the rate that is expected, or seen, and for as long as results are kept."""
    assert one(category(redis_server, rate=0.5), "memory")[0] is State.OK
    state, text = one(category(redis_server, rate=5), "memory")
    assert (state, "by --rate" in text) == (State.WARN, True)
    assert one(category(redis_server, rate=5, result_ttl_seconds=3600), "memory")[0] is State.OK
    now = int(time.time() * 1000)
    for number in range(200):  # 100 jobs a second
        server.xadd(Keys("emo").results, {"job": str(number)}, id=f"{now + 10 * number}-0")
    state, text = one(category(redis_server), "memory")
    assert (state, "emo:results" in text) == (State.WARN, True)


def test_a_server_that_is_full(redis_server: EmbeddedRedis, server: Any) -> None:
    """Workers wait, and producers fail."""

    def told(share: float) -> tuple[State, str]:
        server.config_set("maxmemory", int(server.info("memory")["used_memory"] / share))
        return one(category(redis_server), "memory")

    def is_full() -> bool:
        state, text = told(2.0)
        return (state, "it is full" in text) == (State.FAIL, True)

    # The server may still be freeing what the test before has left there.
    until(lambda: "nearly full" in told(0.91)[1])
    until(is_full)


def test_a_server_without_a_bound(redis_server: EmbeddedRedis, server: Any) -> None:
    """The kernel ends it one day."""
    server.config_set("maxmemory", 0)
    state, text = one(category(redis_server), "memory")
    assert (state, "no maxmemory" in text) == (State.WARN, True)


@pytest.mark.parametrize(
    ("ahead_seconds", "state"),
    [(0, State.OK), (-25, State.WARN), (25, State.WARN), (-120, State.FAIL), (120, State.FAIL)],
)
def test_clocks_that_differ(
    redis_server: EmbeddedRedis, server: Any, ahead_seconds: float, state: State
) -> None:
    """In either direction; how far is said, less what the answer may have taken."""
    looks: list[float] = []

    def clock() -> float:
        looks.append(time.time() + ahead_seconds)
        return looks[-1]

    ahead = category(redis_server, clock=clock)
    found_state, text = one(ahead, "clock")
    assert found_state is state
    if state is not State.OK:
        (apart,) = re.findall(r"are ([\d.,]+) s apart", text)
        took = looks[1] - looks[0]
        assert abs(ahead_seconds) - took - 0.1 <= float(apart) <= abs(ahead_seconds) + 0.1


def test_a_replica(redis_server: EmbeddedRedis, server: Any) -> None:
    """It takes no writes; it is looked at on its own, whatever else is said."""
    server.replicaof("127.0.0.1", own_port())
    said = found(category(redis_server))
    states = {state for lines in said.values() for state, _ in lines}
    assert State.FAIL in states
    assert "replica" in " ".join(text for lines in said.values() for _, text in lines)


def test_no_server_at_all(redis_server: EmbeddedRedis) -> None:
    """The address is said, the password is not, and all else is skipped."""
    url = f"redis://u:hush-hush@127.0.0.1:{own_port()}/0"
    said = found(category(redis_server, url=url))
    ((state, text),) = said.pop("answers")
    assert (state, "127.0.0.1" in text, "hush" in text) == (State.FAIL, True, False)
    assert {state for lines in said.values() for state, _ in lines} == {State.SKIPPED}
    assert one(Server(WorkerSettings()).category(), "answers")[0] is State.FAIL


def test_a_wrong_password(redis_server: EmbeddedRedis, server: Any) -> None:
    """Is not shown either."""
    url = f"redis://nobody:hush-hush@127.0.0.1:{redis_server.port}/0"
    state, text = one(category(redis_server, url=url), "answers")
    assert (state, "hush" in text) == (State.FAIL, False)


@pytest.fixture
def as_user(redis_server: EmbeddedRedis, server: Any) -> Iterator[Callable[..., Any]]:
    """Makes a user by rules of an ACL file, and gives what its rights lack, and all keys."""

    def make(rules: str) -> rights.Lacking:
        server.execute_command("ACL", "SETUSER", "tried", "reset", "on", ">p", *rules.split())
        with connect(
            f"redis://tried:p@127.0.0.1:{redis_server.port}/0",
            name="t",
            timeout_seconds=TIMEOUT_SECONDS,
        ) as client:
            lacks = rights.lacking(client, Keys("emo"))
        assert list(server.scan_iter("*")) == []
        return lacks

    yield make
    server.execute_command("ACL", "DELUSER", "tried")


def worker_rules() -> str:
    """Of `emo-worker`, without its password."""
    (line,) = re.findall(r"^user emo-worker on \S+ (.*)$", ACL_FILE.read_text(), re.MULTILINE)
    return str(line)


def test_a_worker_lacks_nothing(as_user: Callable[[str], rights.Lacking]) -> None:
    """With the rights of the file that we give; nor does somebody who may do all."""
    assert as_user(worker_rules()) == ([], [])
    assert as_user("~* &* +@all") == ([], [])


def test_each_right_that_lacks_is_named(as_user: Callable[[str], rights.Lacking]) -> None:
    """Each by itself, and it alone."""
    rules = worker_rules().split()
    for rule in rules:
        command = rule.removeprefix("+")
        if rule.startswith("+") and command not in CONNECTING:
            lacks = as_user(" ".join(each for each in rules if each != rule))
            assert lacks == ([command], []), command


def test_keys_that_are_closed_are_named(as_user: Callable[[str], rights.Lacking]) -> None:
    """Those, while the commands themselves may be run."""
    open_keys = "~emo:jobs* ~emo:result* ~emo:batch* ~emo:paused ~emo:healed ~emo:worker*"
    lacks = as_user(worker_rules().replace("~emo:*", open_keys))
    assert lacks == ([], ["emo:dead", "emo:delayed"])
    lacks = as_user(worker_rules().replace("~emo:*", "~other:*"))
    assert lacks.commands == []
    assert {"emo:jobs", "emo:jobs:high", "emo:result:*", "emo:batch:*"} <= set(lacks.keys)


def test_what_is_tried_is_what_the_file_gives() -> None:
    """A right that the worker gets and the doctor does not try would be lacked unseen."""
    given = {rule[1:] for rule in worker_rules().split() if rule.startswith("+")}
    assert {*rights.harmless("k"), *rights.writing("k")} == given - CONNECTING


def test_the_doctor_says_what_lacks(redis_server: EmbeddedRedis, server: Any) -> None:
    """With the file that would help."""
    rules = worker_rules().replace("+xclaim ", "").replace("~emo:*", "~emo:jobs*").split()
    server.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">hush-hush", *rules)
    url = f"redis://poor:hush-hush@127.0.0.1:{redis_server.port}/0"
    try:
        said = found(category(redis_server, url=url))["rights"]
    finally:
        server.execute_command("ACL", "DELUSER", "poor")
    (commands, keys) = said
    assert (commands[0], keys[0]) == (State.FAIL, State.FAIL)
    assert "may not run XCLAIM |" in commands[1]
    assert "emo:dead" in keys[1]
    assert "users.acl" in keys[1]


@pytest.mark.parametrize("without", ["info", "ping", "client|setname"])
def test_a_user_who_may_not_even_ask(
    redis_server: EmbeddedRedis, server: Any, without: str
) -> None:
    """What lacks is named, and not that the server were away."""
    rules = worker_rules().replace(f"+{without} ", "").split()
    server.execute_command("ACL", "SETUSER", "poor", "reset", "on", ">hush-hush", *rules)
    url = f"redis://poor:hush-hush@127.0.0.1:{redis_server.port}/0"
    try:
        state, text = one(category(redis_server, url=url), "answers")
    finally:
        server.execute_command("ACL", "DELUSER", "poor")
    assert state is State.FAIL
    assert without.partition("|")[0] in text.lower()
    assert "users.acl" in text
    assert "DEL" not in text
