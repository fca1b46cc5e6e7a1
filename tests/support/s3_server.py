"""S3 servers for tests: a real one (`rclone serve s3`), and one that misbehaves as it is told."""

import re
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from storage.objects.store import ObjectStore, open_store
from tests.support.blobs import contents
from tests.support.polling import TIMEOUT_SECONDS

ACCESS_KEY = "emostream"
SECRET_KEY = "a-secret-of-the-tests"
GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class S3Server:
    """A running `rclone serve s3`."""

    address: str  # host:port
    directory: Path  # its sub-directories are the buckets

    def url(self, bucket: str) -> str:
        """The `EMO_STORE` of one bucket; `s3s://` instead where the server speaks TLS."""
        return f"s3://{self.address}/{bucket}"


@contextmanager
def s3_server(
    directory: Path, *, certificate: Path | None = None, private_key: Path | None = None
) -> Iterator[S3Server]:
    """Serve `directory` on a free loopback port, with `ACCESS_KEY` and `SECRET_KEY`."""
    command = [
        f"{sysconfig.get_path('scripts')}/rclone",
        *("serve", "s3", "--addr", "127.0.0.1:0", "--config", "/dev/null"),
        *("--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--dir-cache-time", "1s"),
        *(["--cert", str(certificate), "--key", str(private_key)] if certificate else []),
        str(directory),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            address = _address(process.stderr)
            # Somebody has to read on: a full pipe would stop the server.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield S3Server(address, directory)
        finally:
            process.terminate()
            process.wait()


def _address(log: Iterator[str]) -> str:
    """The address that the server's log names once it listens."""
    seen = []
    for line in log:
        seen.append(line)
        if found := re.search(r"s3 server on \[https?://([^/]+)/\]", line):
            return found[1]
    raise RuntimeError(f"rclone did not start: {''.join(seen)}")


@dataclass
class Exchange:
    """A request to a scripted server, and its connection, as the script sees it."""

    request: str  # "GET /bucket/key HTTP/1.1"
    send: Callable[[bytes], object]
    hung_up: Callable[[], bool]  # blocks until the client sends more or hangs up
    stopping: threading.Event


@dataclass
class ScriptedServer:
    """A server that does to every request what its script says."""

    address: str  # host:port
    requests: list[str] = field(default_factory=list)  # "GET /bucket/key HTTP/1.1"
    connections: int = 0

    def url(self, bucket: str) -> str:
        """The `EMO_STORE` of one bucket."""
        return f"s3://{self.address}/{bucket}"


@contextmanager
def scripted_server(script: Callable[[Exchange], object]) -> Iterator[ScriptedServer]:
    """Run `script` for every request; the connection stays open until it raises or the end."""
    stopping = threading.Event()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            running.connections += 1
            try:
                while request := self.rfile.readline():
                    while self.rfile.readline().strip():
                        pass  # the headers
                    asked = request.decode().strip()
                    running.requests.append(asked)
                    script(
                        Exchange(
                            asked,
                            self.connection.sendall,
                            lambda: not self.connection.recv(1),
                            stopping,
                        )
                    )
            except OSError:
                pass  # the client hung up, or the script did

    class Server(ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        host, port = server.server_address[:2]
        running = ScriptedServer(f"{host!s}:{port}")
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield running
        finally:
            stopping.set()
            server.shutdown()
            serving.join()


def http_answer(status: str, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer; a header's `_` stands for `-`; `Content-Length` is right unless given."""
    fields = {"Content-Length": str(len(body))}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def connect(server: ScriptedServer, timeout_seconds: float = TIMEOUT_SECONDS) -> ObjectStore:
    """A store over the scripted server's bucket `bucket`."""
    return open_store(server.url("bucket"), timeout_seconds=timeout_seconds)


class Clock:
    """In place of `time`: passes when told to, and by `tick` with every other look at it."""

    def __init__(self, tick: float = 0.0) -> None:
        self.tick = tick
        self.now = 1000.0
        self.looks = 0

    def monotonic(self) -> float:
        """Seconds."""
        self.looks += 1
        self.now += self.tick * (self.looks % 2 == 0)
        return self.now


def fetch(store: ObjectStore) -> bytes:
    """The bytes of the object `k`."""
    with store.fetch("k", max_bytes=1000) as blob:
        return contents(blob)
