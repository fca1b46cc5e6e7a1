"""The S3 store against a server that sends more than anyone could hold."""

import gzip
import tracemalloc

import pytest

from storage.errors import StorageUnavailable
from tests.support.s3_server import GIGABYTE, Exchange, connect, fetch, http_answer, scripted_server

ENDLESS = {
    "an error": http_answer("500 Oh", Content_Length=str(GIGABYTE)),
    "an error in parts": b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a redirection": http_answer("301 Elsewhere", Location="/k", Content_Length=str(GIGABYTE)),
    "an answer to a PUT": http_answer("200 OK", Content_Length=str(GIGABYTE)),
    "headers": b"HTTP/1.1 200 OK\r\n",
}
PARTS = {
    "an error in parts": b"10000\r\n" + bytes(0x10000) + b"\r\n",
    "headers": b"HTTP/1.1 100 Continue\r\nX: " + b"x" * 1000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_server_that_sends_without_end(kind: str) -> None:
    """Nothing but an object may be long: what else it sends is given up after a megabyte or two."""
    sent = [0]

    def script(exchange: Exchange) -> None:
        exchange.send(ENDLESS[kind] if kind != "headers" else b"")
        part = PARTS.get(kind, bytes(1 << 20))
        while not exchange.stopping.is_set() and sent[0] < 50_000_000:
            exchange.send(part)
            sent[0] += len(part)

    with scripted_server(script) as server:
        store = connect(server, timeout_seconds=5)
        with pytest.raises(StorageUnavailable):
            if "PUT" in kind:
                store.put("k", b"output", content_type="x")
            else:
                fetch(store)
    assert sent[0] < 20_000_000


def test_an_error_that_unpacks_to_a_hundred_megabytes() -> None:
    """It stays packed: nobody asked for that."""
    body = gzip.compress(bytes(100_000_000))
    answer = http_answer("403 Forbidden", body, Content_Encoding="gzip")
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        store = connect(server)
        tracemalloc.start()
        try:
            with pytest.raises(StorageUnavailable):
                fetch(store)
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()
