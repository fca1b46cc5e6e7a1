"""Where it happens: a server with its append-only file, a store behind a proxy, and workers."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from storage.redis.connection import connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import GROUP, Keys, Status
from tests.chaos.fleet import Fleet, Nursery
from tests.chaos.kinds import write_objects
from tests.chaos.patience import eventually
from tests.chaos.plan import LEASE_SECONDS
from tests.chaos.store_proxy import StoreProxy, store_proxy
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server

_BUCKET = "audio"
DIRECTORY_SLOT = 0  # its worker has the bucket's directory as its store, the others ask the server
# With fsync by the second, a write may be answered while an fsync runs and before it is in the
# file: a kill in that moment loses a confirmed XADD, and the harness could not tell whose fault.
_SERVER_OPTIONS = ("--appendfsync", "always")
_ANSWER_SECONDS = 20.0
RESULT_TTL_SECONDS = 3600
RESULTS_MAXLEN = 1_000_000
MAX_ATTEMPTS = 10  # more than any plan's outages use up: see `plan.py`
_SETTINGS = {
    "EMO_MODEL": "random:tiny",
    "EMO_DEVICE": "cpu",
    "EMO_DTYPE": "float32",
    "EMO_WINDOW_SECONDS": "5",  # with the shorter tape, a warm-up takes a third of the time
    "EMO_TAPE_SLOTS": "700",
    "EMO_LEASE_SECONDS": str(LEASE_SECONDS),
    "EMO_GRACE_SECONDS": "2",
    "EMO_RETRY_SECONDS": "0.04",
    "EMO_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
    "EMO_FETCH_TIMEOUT_SECONDS": "1",
    "EMO_DECODE_TIMEOUT_SECONDS": "3",
    "EMO_DECODE_PROCESSES": "1",
    "EMO_FETCH_THREADS": "8",
    "EMO_JOBS_IN_FLIGHT": "64",
    "EMO_RESULT_TTL_SECONDS": str(RESULT_TTL_SECONDS),
    "EMO_RESULTS_MAXLEN": str(RESULTS_MAXLEN),
    "EMO_S3_ACCESS_KEY": ACCESS_KEY,
    "EMO_S3_SECRET_KEY": SECRET_KEY,
}

Hash = dict[str, str]


class Arena:
    """The servers and the workers of one run, and a view of what stands in Redis."""

    def __init__(
        self, directory: Path, redis: EmbeddedRedis, store: StoreProxy, parent: Nursery
    ) -> None:
        self.redis = redis
        self.store = store
        self.keys = Keys("emo")
        # Any: redis-py types a reply as every possible one.
        self.client: Any = connect(redis.url, name="chaos")
        self.settings = {
            **_SETTINGS,
            "EMO_REDIS_URL": redis.url,
            "EMO_STORE": f"s3://{store.address}/{_BUCKET}",
            "EMO_OUTPUT_STORE": directory.as_uri(),
        }
        self.fleet = Fleet(parent, directory, self.settings)
        self._bucket = directory / "s3" / _BUCKET
        self._link = directory / "store"
        self._server_lock = threading.Lock()

    def kill_server(self) -> None:
        """SIGKILL the server, and start it again on the same port and file."""
        with self._server_lock:
            self.redis.kill()
            self.redis.start()

    def pause_server(self) -> int:
        """SIGSTOP the server; returns its process id."""
        with self._server_lock:
            pid = self.redis.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            return pid

    def resume_server(self, pid: int) -> None:
        """SIGCONT the server that was stopped; nothing happens to another one."""
        with self._server_lock:
            if self.redis.pid == pid:
                os.kill(pid, signal.SIGCONT)

    def give_directory(self) -> None:
        """Let the worker in one slot have a store of its own, which can vanish."""
        self.find_store()
        self.fleet.of_slot[DIRECTORY_SLOT] = {"EMO_STORE": self._link.as_uri()}

    def lose_store(self) -> None:
        """That store is gone."""
        self._link.unlink(missing_ok=True)

    def find_store(self) -> None:
        """That store is there again."""
        with suppress(FileExistsError):
            self._link.symlink_to(self._bucket)

    def answering(self) -> None:
        """Return when the server answers."""

        def pinged() -> bool:
            try:
                return bool(self.client.ping())
            except RedisError:
                return False

        eventually(pinged, _ANSWER_SECONDS, "the server answers")

    def result(self, job: str) -> Hash:
        """The result hash, internal fields and all."""
        return _as_text(self.client.hgetall(self.keys.result(job)))

    def results(self) -> dict[str, Hash]:
        """Every result hash, by job."""
        prefix = self.keys.result("")
        found = {}
        names = [name.decode() for name in self.client.scan_iter(match=f"{prefix}*", count=1000)]
        for first in range(0, len(names), 500):
            with self.client.pipeline(transaction=False) as batch:
                for name in names[first : first + 500]:
                    batch.hgetall(name)
                hashes = batch.execute()
            for name, flat in zip(names[first : first + 500], hashes, strict=True):
                found[name.removeprefix(prefix)] = _as_text(flat)
        return found

    def ended(self) -> int:
        """How many jobs ended, by the events."""
        return int(self.client.xlen(self.keys.results))

    def events(self) -> list[Hash]:
        """Every event there was."""
        return [_as_text(fields) for _, fields in self.client.xrange(self.keys.results)]

    def letters(self) -> list[Hash]:
        """Every dead letter."""
        return [_as_text(fields) for _, fields in self.client.xrange(self.keys.dead)]

    def queued(self) -> int:
        """Entries in the lanes, read and unread."""
        return sum(int(self.client.xlen(lane)) for lane in self.keys.lanes)

    def pending(self, consumer: str | None = None) -> int:
        """Entries in flight, of all workers or of one."""
        total = 0
        for lane in self.keys.lanes:
            summary = self.client.xpending(lane, GROUP)
            total += sum(
                int(each["pending"])
                for each in summary["consumers"]
                if consumer in (None, each["name"].decode())
            )
        return total

    def delayed(self) -> int:
        """Jobs that wait for their retry."""
        return int(self.client.zcard(self.keys.delayed))

    def consumers(self) -> set[str]:
        """The names of all consumers."""
        return {
            each["name"].decode()
            for lane in self.keys.lanes
            for each in self.client.xinfo_consumers(lane, GROUP)
        }

    def idle(self) -> bool:
        """Whether nothing is queued, in flight, or waiting for its retry, all at the same moment.

        What is pending is in its lane as well, until it ends.
        """
        with self.client.pipeline(transaction=True) as moment:
            for lane in self.keys.lanes:
                moment.xlen(lane)
            moment.zcard(self.keys.delayed)
            return not any(moment.execute())

    def crash_evidence(self) -> dict[str, list[str]]:
        """The live jobs that hold evidence of crashes, and that evidence."""
        return {
            job: evidence
            for job, result in self.results().items()
            if not Status(result.get("status", "queued")).terminal
            and (evidence := [name for name in result if name.startswith("_crash")])
        }


@contextmanager
def arena(directory: Path, parent: Nursery, aliases: dict[str, str]) -> Iterator[Arena]:
    """Everything up but the workers; all of it ends with the block."""
    write_objects(directory / "s3" / _BUCKET, aliases)
    with (
        s3_server(directory / "s3") as server,
        store_proxy(server.address) as store,
        EmbeddedRedis(directory / "redis", options=_SERVER_OPTIONS) as redis,
    ):
        place = Arena(directory, redis, store, parent)
        try:
            yield place
        finally:
            place.fleet.kill()
            place.client.close()


def _as_text(fields: dict[bytes, bytes]) -> Hash:
    return {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}
