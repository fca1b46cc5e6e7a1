"""A receiver of webhooks: a real HTTP server that answers as it is told, and checks signatures."""

import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook

from tests.support.certificates import Certificate

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, **headers: str) -> Answer:
    """Answer with that status, and headers with `_` for `-`."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class Receiver:
    """Answers by `answer`, which may be changed at any time.

    `got` are the messages whose signature is right by the specification's own library, `ids` what
    each was called, `wrong` the requests whose signature is not, and `requests` their heads.
    """

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificate: Certificate | None = None,
        secret: str = SECRET,
    ) -> None:
        self.answer = answer or status(204)
        self.got: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.wrong: list[str] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        receiver, webhook = self, Webhook(secret)

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers)))
                try:
                    receiver.got.append(webhook.verify(sent, dict(self.headers)))
                    receiver.ids.append(self.headers["webhook-id"])
                except Exception as error:
                    receiver.wrong.append(repr(error))
                receiver.answer(self)

            def log_message(self, *args: Any) -> None:
                """To nobody."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *args: Any) -> None:
                """Senders that hang up are what some tests are about."""

        self._server = Server((host, port), Handler)
        self.port = int(self._server.server_address[1])
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.file, certificate.key_file)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """Where it is."""
        return f"http://{host}:{self.port}{path}"

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Give its port back: of one that was never entered."""
        self._server.server_close()


class Slow:
    """Answers with 204 when it is let."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.let.wait()
        with self._lock:
            self.now -= 1
        status(204)(handler)


def drip(handler: BaseHTTPRequestHandler) -> None:
    """A head that never ends, a byte at a time."""
    for byte in b"HTTP/1.1 200 OK\r\nX: " + b"y" * 10_000:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.02)  # it is the attack


def flood(handler: BaseHTTPRequestHandler, flooded: list[int]) -> None:
    """A body that never ends; how many bytes of it went is noted."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        flooded.append(handler.wfile.write(b"x" * 65536))


def endless_head(handler: BaseHTTPRequestHandler) -> None:
    """Headers that never end."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X: " + b"y" * 60_000 + b"\r\n")
