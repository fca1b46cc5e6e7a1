"""Workers that are not the same, or not well, by what they say of themselves."""

from collections.abc import Callable
from typing import Any

import pytest

from storage.queue.workers import Words
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.integration.doctor.test_server import worker_rules
from tests.support.findings import found
from worker.delivery.telling import about_worker
from worker.doctor.findings import State
from worker.doctor.workers import workers
from worker.settings import WorkerSettings

MODEL = {"model": "a/b", "model_revision": "v1", "device": "cuda:0", "dtype": "float16"}
Tell = Callable[..., None]


@pytest.fixture
def tell(client: Any, keys: Keys) -> Tell:
    """Has a worker say how it is, as workers do."""

    def say(name: str, settings: dict[str, Any] | None = None, **said: str) -> None:
        agreed = WorkerSettings(**(settings or {})).agreed()
        told = about_worker({**MODEL, **said}, agreed) | {"state": "ready", **said}
        Words(client, keys, name, lease_seconds=3600).tell(told)

    return say


def look(redis_server: EmbeddedRedis, **settings: Any) -> dict[str, tuple[State, str]]:
    """The last line of each check."""
    chosen = WorkerSettings(redis_url=redis_server.url, **settings)
    return {check: lines[-1] for check, lines in found(workers(chosen)).items()}


def test_workers_that_are_alike(redis_server: EmbeddedRedis, tell: Tell) -> None:
    """All is well, and they may have devices and threads of their own."""
    tell("one")
    tell("two", {"device": "cpu", "fetch_threads": 3, "decode_processes": 1})
    said = look(redis_server)
    assert {state for state, _ in said.values()} == {State.OK}
    assert "2 under EMO_PREFIX=emo: ready" in said["well"][1]


@pytest.mark.parametrize(
    ("check", "said", "state", "told"),
    [
        ("model", {"model": "c/d"}, State.FAIL, "a/b at v1 (one, two), c/d at v1 (three)"),
        ("model", {"model_revision": "v2"}, State.FAIL, "a/b at v2 (three)"),
        ("dtype", {"dtype": "float32"}, State.WARN, "float16 (one, two), float32 (three)"),
        ("release", {"version": "9.9.9"}, State.WARN, "9.9.9 (three)"),
        ("well", {"state": "sick", "sickness": "no spool"}, State.WARN, "three takes no jobs"),
        ("well", {"state": "stuck"}, State.WARN, "see its log"),
    ],
)
def test_one_that_is_not(
    redis_server: EmbeddedRedis,
    tell: Tell,
    check: str,
    said: dict[str, str],
    state: State,
    told: str,
) -> None:
    """It is named with what it has; nothing else is complained of."""
    for name in ("one", "two"):
        tell(name)
    tell("three", **said)
    answers = look(redis_server)
    found_state, text = answers.pop(check)
    assert (found_state, told in text) == (state, True), text
    assert {state for state, _ in answers.values()} == {State.OK}


def test_settings_that_differ(redis_server: EmbeddedRedis, tell: Tell) -> None:
    """By their names, with who has what; whoever would start another one here is among them."""
    tell("one", {"window_seconds": 20})
    tell("two")
    state, text = look(redis_server)["agreement"]
    assert state is State.WARN
    assert "EMO_WINDOW_SECONDS differs: 30.0 (two, these settings), 20.0 (one)" in text
    state, text = look(redis_server, window_seconds=20, lease_seconds=60)["agreement"]
    assert state is State.WARN


def test_nobody_and_nothing(redis_server: EmbeddedRedis, client: Any) -> None:
    """No worker is no fault; what is no worker's hash is none."""
    assert look(redis_server)["well"][0] is State.OK
    client.zadd("emo:workers", {"odd": 1e15, "gone": 1e15, "list": 1e15})
    client.hset("emo:worker:odd", "settings", "[[[[")
    client.lpush("emo:worker:list", "x")
    said = look(redis_server)
    assert "1 under EMO_PREFIX=emo" in said["well"][1]
    assert said["agreement"][0] is State.OK
    assert found(workers(WorkerSettings()))["well"][0][0] is State.SKIPPED


def test_a_workers_own_user_may_look(redis_server: EmbeddedRedis, tell: Tell, client: Any) -> None:
    """The doctor runs as the worker does."""
    tell("one")
    client.execute_command("ACL", "SETUSER", "w", "reset", "on", ">p", *worker_rules().split())
    try:
        chosen = WorkerSettings(redis_url=f"redis://w:p@127.0.0.1:{redis_server.port}/0")
        ((state, text),) = found(workers(chosen))["well"]
    finally:
        client.execute_command("ACL", "DELUSER", "w")
    assert (state, "1 under" in text) == (State.OK, True)
