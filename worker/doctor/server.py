"""Redis: whether it answers, keeps what it is given, has room, knows the time, and allows all."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from storage.queue.rights import is_refused, lacking
from storage.redis.connection import Client, RedisError, UnfitServer, check_server, connect
from storage.redis.durability import eviction, forgetting
from storage.wire.messages import Keys
from worker.doctor.findings import Category, Check, Line, fail, ok, warn
from worker.settings import WorkerSettings

_SEE = "doctor.md#redis"
_ANSWER_SECONDS = 5.0
_RESULT_BYTES = 1_300  # docs/operations.md
_FULL, _NEARLY = 1.0, 0.8  # of its memory
_MEGA = 1e6
_LEAST_EVENTS = 100  # fewer say nothing of a rate
# Between the clocks: what a deadline may bear, and what none can.
_SKEW_SECONDS, _MOST_SKEW_SECONDS = 1.0, 30.0


class Server:
    """The checks of the Redis that the settings name. `rate`: jobs a second, where one is known."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        rate: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._rate = rate
        self._clock = clock

    def category(self) -> Category:
        """All of them, one after another on connections of their own."""
        return Category(
            "Redis",
            (
                Check("answers", self._answers),
                Check("state", lambda: self._asked(self._state), needs="answers"),
                Check("policy", lambda: self._asked(self._policy), needs="answers"),
                Check("persistence", lambda: self._asked(self._persistence), needs="answers"),
                Check("memory", lambda: self._asked(self._memory), needs="answers"),
                Check("clock", lambda: self._asked(self._skew), needs="answers"),
                Check("rights", lambda: self._asked(self._rights), needs="answers"),
            ),
        )

    def _asked(self, look: Callable[[Client], Iterable[Line]]) -> Iterable[Line]:
        with self._client() as client:
            with suppress(RedisError):  # of a cluster, be sent to the node that has our keys
                client.exists(self._keys.results)
            try:
                yield from look(client)
            except RedisError as error:
                yield fail(str(error), "see the server's log", _SEE)

    def _client(self) -> Client:
        url = self._settings.redis_url
        return connect(url, name="emostream-doctor", timeout_seconds=_ANSWER_SECONDS)

    def _answers(self) -> Iterable[Line]:
        if not self._settings.redis_url:
            yield fail("EMO_REDIS_URL is not set", "set it: workers take jobs from there", _SEE)
            return
        with self._client() as client:
            try:
                client.ping()  # which connects
                began = time.perf_counter()
                client.ping()
                seconds = time.perf_counter() - began
                check_server(client, self._settings.prefix)
                server: Any = client.info("server")
            except UnfitServer as error:
                yield fail(str(error), "EMO_REDIS_URL names it", _SEE)
                return
            except RedisError as error:
                refused = list(self._lacking(client)) if is_refused(error) else []
                yield from refused or [
                    fail(
                        f"EMO_REDIS_URL: {error}",
                        "see that it runs, and that address, user, password and TLS are right",
                        _SEE,
                    )
                ]
                return
        name = f"Valkey {server['valkey_version']}" if "valkey_version" in server else ""
        name = name or f"Redis {server.get('redis_version', '?')}"
        yield ok(f"{name}, {server.get('redis_mode', 'standalone')}, in {seconds * 1e3:.1f} ms")

    def _state(self, client: Client) -> Iterable[Line]:
        """What keeps it from writing now."""
        kept, copies = _info(client, "persistence"), _info(client, "replication")
        found = False
        for name, what in (
            ("aof_last_write_status", "the append-only file cannot be written"),
            ("rdb_last_bgsave_status", "the last snapshot failed, and it may refuse writes"),
        ):
            if kept.get(name, "ok") != "ok":
                found = True
                yield fail(f"{what} ({name}: {kept[name]})", "see its log, and its disk", _SEE)
        if int(kept.get("loading", 0)):
            found = True
            yield warn("it is still reading its data from disk", "wait until it has", _SEE)
        if copies.get("role", "master") != "master":
            found = True
            yield fail("it is a replica, and takes no writes", "name its master", _SEE)
        if not found:
            yield ok("takes writes")

    def _policy(self, client: Client) -> Iterable[Line]:
        memory = _info(client, "memory")
        if why := eviction(memory):
            evicts = memory.get("maxmemory_policy") and int(memory.get("maxmemory", 0))
            yield (fail if evicts or self._settings.require_durable_redis else warn)(
                why, "`CONFIG SET maxmemory-policy noeviction`, and in redis.conf", _SEE
            )
        else:
            yield ok("maxmemory-policy noeviction: when full, it refuses, and forgets nothing")

    def _persistence(self, client: Client) -> Iterable[Line]:
        if why := forgetting(_info(client, "persistence")):
            yield (fail if self._settings.require_durable_redis else warn)(
                why, "`CONFIG SET appendonly yes`, and in redis.conf", _SEE
            )
        else:
            yield ok("appendonly yes")

    def _memory(self, client: Client) -> Iterable[Line]:
        """What is used now, and what results take once the first of them expire."""
        memory = _info(client, "memory")
        used, most = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
        if not most:
            yield warn(
                f"it has no maxmemory, and uses {used / _MEGA:.0f} MB: a full machine kills it",
                "set it to half of what the machine has for Redis: rewriting its file may copy all",
                "doctor.md#redis-memory",
            )
            return
        text = f"{used / _MEGA:,.0f} of {most / _MEGA:,.0f} MB used"
        seconds, rate = self._settings.result_ttl_seconds, self._rate
        holds = most * _NEARLY / (seconds * _RESULT_BYTES)
        expected, why = (rate, "--rate") if rate else self._measured(client)
        kept = f"for EMO_RESULT_TTL_SECONDS ({seconds:g} s) it holds {holds:,.3g} jobs a second"
        todo = "give it more maxmemory, or lower EMO_RESULT_TTL_SECONDS and EMO_RESULTS_MAXLEN"
        if used >= _FULL * most:
            yield fail(f"it is full: {text}", todo, "doctor.md#redis-memory")
        elif used >= _NEARLY * most:
            yield warn(f"it is nearly full: {text}", todo, "doctor.md#redis-memory")
        elif expected and expected > holds:
            yield warn(
                f"too small: {kept}, and there are {expected:,.3g} by {why}",
                todo,
                "doctor.md#redis-memory",
            )
        else:
            yield ok(f"{text}; {kept}")

    def _measured(self, client: Client) -> tuple[float | None, str]:
        """Jobs a second that have ended, as the events tell that are kept; None for too few."""
        why = f"the events in {self._keys.results}"
        try:
            found: Any = client.xinfo_stream(self._keys.results)
        except RedisError:
            return None, why  # there is none yet
        if found["length"] < _LEAST_EVENTS:
            return None, why
        first, last = (
            int(found[name][0].partition(b"-")[0]) for name in ("first-entry", "last-entry")
        )
        return found["length"] / max(1.0, (last - first) / 1000), why

    def _skew(self, client: Client) -> Iterable[Line]:
        """Between this clock and Redis's, less what the answer may have taken."""
        before = self._clock()
        seconds, micros = client.time()
        after = self._clock()
        theirs = int(seconds) + int(micros) / 1e6
        skew = max(before - theirs, theirs - after, 0.0)
        if skew > _SKEW_SECONDS:
            yield (fail if skew > _MOST_SKEW_SECONDS else warn)(
                f"this clock and Redis's are {skew:,.1f} s apart",
                "let one source (NTP) set both: `timedatectl`, `chronyc tracking`",
                "operations.md#clocks",
            )
        else:
            yield ok(f"less than {max(skew, 0.1):.1f} s apart")

    def _rights(self, client: Client) -> Iterable[Line]:
        lacks = list(self._lacking(client))
        yield from lacks or [ok("the user of EMO_REDIS_URL may do all that a worker does")]

    def _lacking(self, client: Client) -> Iterable[Line]:
        """What its user may not; nothing where it may do all, or not even that can be asked."""
        todo = "take deploy/redis/users.acl, and load it: `ACL LOAD`"
        try:
            found = lacking(client, self._keys)
        except RedisError as error:
            yield fail(f"EMO_REDIS_URL: {error}", todo, _SEE)
            return
        if found.commands:
            names = ", ".join(name.upper().replace("|", " ") for name in found.commands)
            yield fail(f"the user of EMO_REDIS_URL may not run {names}", todo, _SEE)
        if found.keys:
            named = ", ".join(found.keys)
            yield fail(f"the user of EMO_REDIS_URL may not use the keys {named}", todo, _SEE)


def _info(client: Client, section: str) -> Mapping[str, Any]:
    found: Any = client.info(section)
    return found if isinstance(found, Mapping) else {}
