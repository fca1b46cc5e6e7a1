"""An S3 server whose one object comes when it is let: workers hold their jobs meanwhile."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.s3_server import Exchange, http_answer, scripted_server

_LOOK_SECONDS = 0.05
# A worker waits for it longer than any test.
PATIENCE = {"EMO_FETCH_TIMEOUT_SECONDS": "600"}


class HeldStore:
    """`url` is the `EMO_STORE`; of other objects it says that they are not there."""

    def __init__(self, key: str, body: bytes) -> None:
        self.url = ""
        self._key = key
        self._body = body
        self._permits = threading.Semaphore(0)

    def let(self, times: int = 1_000_000) -> None:
        """Give the object so many times more."""
        self._permits.release(times)

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request."""
        if not exchange.request.split()[1].endswith(f"/{self._key}"):
            none = b"<Error><Code>NoSuchKey</Code></Error>"
            exchange.send(http_answer("404 Not Found", none, Content_Type="application/xml"))
            return
        while not self._permits.acquire(timeout=_LOOK_SECONDS):
            if exchange.stopping.is_set():
                raise ConnectionResetError
        exchange.send(http_answer("200 OK", self._body))


@contextmanager
def held_store(key: str, body: bytes) -> Iterator[HeldStore]:
    """A bucket with that object."""
    store = HeldStore(key, body)
    with scripted_server(store) as server:
        store.url = server.url("bucket")
        yield store
