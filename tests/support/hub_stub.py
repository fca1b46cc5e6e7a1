"""A small model hub on loopback: what the real ModelScope client asks for, and ways to go wrong."""

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from tests.support.ports import own_port

Files = dict[str, bytes]  # content by path


class StubHub:
    """Serves revisions of models until it is stopped; a context manager.

    Attributes:
        requests: `path?query` of everything that was asked, in order.
        damaged: Paths served with their first byte changed; the listing stays right.
        shortened: Paths served without their second half, as if that were all of it.
        cut: Paths whose connection breaks half way, once each; then they can be resumed.
        lost: Paths that are listed, and not found when asked for.
        moves_to: What a revision becomes as soon as it was listed, like a branch.
    """

    def __init__(self, models: dict[str, dict[str, Files]]) -> None:
        """Serve `models`: files by revision, by `owner/name`."""
        self.models = models
        self.requests: list[str] = []
        self.damaged: set[str] = set()
        self.shortened: set[str] = set()
        self.cut: set[str] = set()
        self.lost: set[str] = set()
        self.moves_to: Files | None = None
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """What to set MODELSCOPE_ENDPOINT to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fetched(self, path: str) -> list[str]:
        """Revisions in which the file was downloaded, in order."""
        queries = [parse_qs(urlsplit(request).query) for request in self.requests]
        return [query["Revision"][0] for query in queries if query.get("FilePath") == [path]]

    def stop(self) -> None:
        """Close the port: from now on connections are refused."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> "StubHub":
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.is_alive():
            self.stop()


class _Server(ThreadingHTTPServer):
    """Says nothing about clients that hang up, as they do when they are told a wrong size."""

    def handle_error(self, *_: object) -> None:
        """Leave a failed request to the client, and thus to the test."""


class _Handler(BaseHTTPRequestHandler):
    """Answers the routes of the hub's `/api/v1`."""

    hub: ClassVar[StubHub]

    def do_GET(self) -> None:
        """Answer a listing, a file or a model; everything else is not there."""
        self.hub.requests.append(self.path)
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        owner, _, rest = url.path.removeprefix("/api/v1/models/").partition("/")
        name, _, route = rest.partition("/")
        revisions = self.hub.models.get(f"{owner}/{name}", {})
        revision = query.get("Revision", "master")
        files = revisions.get(revision)
        path = query.get("FilePath", "")
        if route == "repo/files" and files is not None:
            self._send_listing(files)
            revisions[revision], self.hub.moves_to = self.hub.moves_to or files, None
        elif route == "repo" and files is not None and path in files.keys() - self.hub.lost:
            self._send_file(path, files[path])
        elif route == "" and revisions:
            self._send_json(HTTPStatus.OK, {"Name": name, "Path": owner})
        else:
            self._send_json(HTTPStatus.NOT_FOUND, None)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output readable."""

    def _send_listing(self, files: Files) -> None:
        """Send path, size and sha256 of each file, as they should be."""
        entries = [
            {
                "Path": path,
                "Name": path.rpartition("/")[2],
                "Type": "blob",
                "Size": len(content),
                "Sha256": hashlib.sha256(content).hexdigest(),
            }
            for path, content in files.items()
        ]
        self._send_json(HTTPStatus.OK, {"Files": entries})

    def _send_json(self, status: HTTPStatus, data: object) -> None:
        """Send the hub's envelope around `data`."""
        success = status is HTTPStatus.OK
        message = "success" if success else "record not found"
        envelope = {"Code": status, "Data": data, "Message": message, "Success": success}
        self._send(status, json.dumps(envelope).encode(), {"Content-Type": "application/json"})

    def _send_file(self, path: str, content: bytes) -> None:
        """Send a file or the end of it that a Range asks for, in the way the test wants."""
        if path in self.hub.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        if path in self.hub.shortened:
            content = content[: len(content) // 2]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if path in self.hub.cut:
            self.hub.cut.remove(path)
            self._send(HTTPStatus.OK, content, {}, sent=len(content) // 2)
            self.close_connection = True
        elif start:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self._send(HTTPStatus.PARTIAL_CONTENT, content[start:], {"Content-Range": span})
        else:
            self._send(HTTPStatus.OK, content, {})

    def _send(
        self, status: HTTPStatus, body: bytes, headers: dict[str, str], sent: int | None = None
    ) -> None:
        """Announce all of `body`, and send the first `sent` bytes of it."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:sent])


@contextmanager
def silent_hub() -> Iterator[str]:
    """Give the endpoint of a hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def refusing_endpoint() -> str:
    """Endpoint of a port that nothing listens on."""
    return f"http://127.0.0.1:{own_port()}"
