"""What workers say of themselves, on every server: told, read, trimmed and gone."""

import asyncio
import json
from typing import Any

import pytest
from redis.exceptions import ResponseError

from producer.client import AsyncClient, Client, Contract, Fleet
from storage.queue.steps import Driver
from storage.queue.workers import State, Value, Words, Workers
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Keys
from tests.support.polling import until
from tests.support.stream_workers import lives_for, now_ms

TOLD: dict[str, Value] = {
    **{"state": "ready", "host": "host", "pid": 17, "version": "0.1.0", "model": "m"},
    **{"capacity": 256, "in_flight": 3, "clips_per_s": 1.5, "stage_shares": '{"decode":0.5}'},
    **{"settings": '{"EMO_WINDOW_SECONDS":"30.0"}', "gpu_uuid": "GPU-1", "gpu_utilization": 0.93},
    "gpu_held_down_by": "heat, power limit",
}


def look(client: Any, keys: Keys, most: int = 1000) -> Fleet:
    """All of them."""
    return Driver(client).run(Workers(keys).look(most))


def words(client: Any, keys: Keys, name: str = "one", lease_seconds: float = 30) -> Words:
    """A worker's side."""
    return Words(client, keys, name, lease_seconds=lease_seconds)


def test_what_is_told_is_read(client: Any, keys: Keys) -> None:
    """In its types; what was not told is None, and what was told before is gone."""
    words(client, keys).tell({"sickness": "of before"})
    told_ms = now_ms(client)
    words(client, keys).tell(TOLD)
    (worker,) = look(client, keys).workers
    assert (worker.name, worker.state, worker.sickness) == ("one", "ready", "")
    assert (worker.pid, worker.clips_a_second, worker.latency_ms) == (17, 1.5, None)
    assert worker.stage_shares == {"decode": 0.5}
    assert worker.settings == {"EMO_WINDOW_SECONDS": "30.0"}
    assert 0 <= worker.silent_seconds < 10
    assert worker.gpu
    assert worker.gpu.utilization == 0.93
    assert worker.gpu.held_down_by == ["heat", "power limit"]
    assert worker.gpu.watts is None
    assert lives_for(client, keys.worker("one"), 90_000, told_ms)


def test_a_client_reads_them(redis_server: EmbeddedRedis, client: Any, keys: Keys) -> None:
    """With the prefix that it was given."""
    words(client, keys).tell(TOLD)
    with Client(redis_server.url, Contract()) as ours:
        assert [each.host for each in ours.workers().workers] == ["host"]
    with Client(redis_server.url, Contract(prefix="other")) as others:
        assert others.workers() == Fleet([], 0, 0)

    async def look() -> Fleet:
        async with AsyncClient(redis_server.url) as on_loop:
            return await on_loop.workers()

    assert [each.host for each in asyncio.run(look()).workers] == ["host"]


def test_those_that_spoke_last_come_first_and_no_more_than_asked_for(
    client: Any, keys: Keys
) -> None:
    """The others are counted."""
    for name in ("one", "two", "three"):
        words(client, keys, name).tell(TOLD)
    words(client, keys, "one").tell(TOLD)
    last = client.zrevrange(keys.workers, 0, -1)
    fleet = look(client, keys, most=2)
    assert [each.name.encode() for each in fleet.workers] == last[:2]
    assert fleet.total == 3


def test_a_silent_worker_is_gone_after_three_leases(client: Any, keys: Keys) -> None:
    """Its hash by itself; its name from the index with anybody's next word."""
    words(client, keys, "silent", lease_seconds=0.005).tell(TOLD)
    until(lambda: not look(client, keys).workers)
    until(lambda: not client.exists(keys.worker("silent")))
    words(client, keys).tell(TOLD)
    assert client.zrange(keys.workers, 0, -1) == [b"one"]
    assert look(client, keys).total == 1


def test_a_worker_that_leaves_is_gone_at_once(client: Any, keys: Keys) -> None:
    """And the others stay."""
    for name in ("one", "two"):
        words(client, keys, name).tell(TOLD)
    words(client, keys).take_back()
    assert [each.name for each in look(client, keys).workers] == ["two"]
    assert client.keys("emo:worker*") in (
        [b"emo:workers", b"emo:worker:two"],
        [b"emo:worker:two", b"emo:workers"],
    )


def test_what_others_wrote_there_harms_nobody(client: Any, keys: Keys) -> None:
    """Fields that are no numbers, hashes that are none: the other workers are still told of."""
    words(client, keys).tell({**TOLD, "pid": "many", "clips_per_s": "nan", "settings": "[1]"})
    words(client, keys, "list").tell(TOLD)
    client.delete(keys.worker("list"))
    client.rpush(keys.worker("list"), "x")
    client.zadd(keys.workers, {"ghost": 9e15, "a b\n\xff": 9e15})
    (worker,) = look(client, keys).workers
    assert (worker.pid, worker.clips_a_second, worker.settings) == (None, None, {})
    words(client, keys, "list").tell(TOLD)
    assert len(look(client, keys).workers) == 2


def test_an_index_of_another_type_is_told_by_readers_and_mended_by_workers(
    client: Any, keys: Keys
) -> None:
    """Nobody reads nothing where something is."""
    client.set(keys.workers, "x")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        look(client, keys)
    words(client, keys).tell(TOLD)
    assert len(look(client, keys).workers) == 1


def test_a_full_server_is_told_too(client: Any, keys: Keys) -> None:
    """When it is most wanted; the first word of a new worker may have to wait."""
    words(client, keys).tell(TOLD)
    client.config_set("maxmemory", 1)
    try:
        words(client, keys).tell({**TOLD, "state": "redis_away"})
    finally:
        client.config_set("maxmemory", 0)
    assert [each.state for each in look(client, keys).workers] == ["redis_away"]


def test_a_worker_that_missed_two_words_is_silent(client: Any, keys: Keys) -> None:
    """As one that was killed: it stays for a while, but no figures of before do."""
    words(client, keys).tell({**TOLD, "settings": '{"EMO_LEASE_SECONDS":"30.0"}'})
    (worker,) = look(client, keys).workers
    assert (worker.state, worker.clips_a_second) == ("ready", 1.5)
    told_at_ms = int(client.hget(keys.worker("one"), "told_at_ms"))
    client.hset(keys.worker("one"), "told_at_ms", told_at_ms - 16_000)
    (worker,) = look(client, keys).workers
    assert worker.state == State.SILENT
    assert worker.silent_seconds >= 16
    assert (
        worker.sickness == f"it has said nothing for {worker.silent_seconds:.0f} s, and may be dead"
    )
    assert (worker.clips_a_second, worker.gpu, worker.stage_shares) == (None, None, {})
    assert (worker.host, worker.in_flight) == ("host", 3)
    for lease in ("soon", "", "nan"):
        settings = f'{{"EMO_LEASE_SECONDS":"{lease}"}}'
        client.hset(keys.worker("one"), "settings", settings)
        assert look(client, keys).workers[0].state == "ready"


@pytest.mark.parametrize("field", ["x" * 20_000, "many"])
def test_what_is_too_large_to_be_a_workers_hides_no_other(
    client: Any, keys: Keys, field: str
) -> None:
    """Replies are bounded: one hash that somebody wrote could keep all from being read."""
    words(client, keys).tell(TOLD)
    words(client, keys, "huge").tell(TOLD)
    names = [field] if len(field) > 9 else [f"{field}-{number}" for number in range(200)]
    client.hset(keys.worker("huge"), mapping=dict.fromkeys(names, "x"))
    assert [each.name for each in look(client, keys).workers] == ["one"]


def test_a_thousand_workers_are_read_at_once(client: Any, keys: Keys) -> None:
    """With all that each tells: in one round trip, which reads each hash once and nothing else."""
    settings = json.dumps({f"EMO_SETTING_{number}": "x" * 30 for number in range(30)})
    gpu = {f"gpu_{number}": "0.123456" for number in range(14)}
    told: dict[str, Value] = {**TOLD, **gpu, "settings": settings}
    for number in range(1000):
        words(client, keys, f"worker-{number}").tell(told)
    look(client, keys)  # the script is loaded
    client.config_resetstat()
    fleet = look(client, keys)
    assert (len(fleet.workers), fleet.total) == (1000, 1000)
    stats = client.info("commandstats")
    ran = {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}
    assert ran.pop("evalsha") == 1
    assert ran.pop("hgetall") == 1000
    assert sum(ran.values()) < 10
