"""The S3 store against a server that lies, refuses, and breaks off."""

import gc
import os
import threading

import pytest

from storage.errors import (
    AccessDenied,
    InvalidJob,
    JobError,
    ObjectNotFound,
    ObjectTooLarge,
    StorageUnavailable,
)
from storage.objects import s3
from tests.support.polling import TIMEOUT_SECONDS, until
from tests.support.s3_server import GIGABYTE, Exchange, connect, fetch, http_answer, scripted_server


def error_xml(code: str) -> bytes:
    """What S3 answers when it refuses."""
    return (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Why.</Message></Error>".encode()
    )


def test_one_request_for_each_object_over_one_connection() -> None:
    """A fetch is a single GET, and the next one uses its connection again."""
    with scripted_server(lambda exchange: exchange.send(http_answer("200 OK", b"body"))) as server:
        store = connect(server)
        assert [fetch(store) for _ in range(3)] == [b"body"] * 3
        assert server.requests == ["GET /bucket/k HTTP/1.1"] * 3
        assert server.connections == 1


def test_a_connection_that_was_hung_up_is_not_used_again() -> None:
    """Servers close what is idle, and need not say so beforehand: the next fetch makes another."""

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", b"body"))
        raise ConnectionResetError

    with scripted_server(script) as server:
        store = connect(server)
        assert isinstance(store, s3.S3Store)
        for number in range(1, 4):
            assert fetch(store) == b"body"
            until(lambda: hung_up(store))
            assert server.connections == number


def hung_up(store: s3.S3Store) -> bool:
    """Whether the server has closed the connection that was kept."""
    ((kept,),) = store._gets._idle.values()
    return not kept.is_quiet()


def test_a_server_that_says_so_is_hung_up_on() -> None:
    """After `Connection: close` nothing is kept."""
    answer = http_answer("200 OK", b"body", Connection="close")
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        store = connect(server)
        assert isinstance(store, s3.S3Store)
        assert [fetch(store) for _ in range(2)] == [b"body"] * 2
        assert server.connections == 2
        assert not any(store._gets._idle.values())


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml; charset=utf-8"])
@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        ("404 Not Found", "NoSuchKey", ObjectNotFound),
        ("404 Not Found", "NoSuchBucket", ObjectNotFound),
        ("400 Bad Request", "KeyTooLongError", ObjectNotFound),
        ("403 Forbidden", "AccessDenied", AccessDenied),
        ("403 Forbidden", "InvalidAccessKeyId", AccessDenied),
        ("403 Forbidden", "SignatureDoesNotMatch", AccessDenied),
        ("400 Bad Request", "ExpiredToken", AccessDenied),
        ("400 Bad Request", "AuthorizationHeaderMalformed", AccessDenied),
        ("400 Bad Request", "XMinioInvalidObjectName", InvalidJob),
        ("400 Bad Request", "InvalidURI", InvalidJob),
        ("400 Bad Request", "InvalidArgument", StorageUnavailable),  # `k` is as good a key as any
        ("301 Moved Permanently", "PermanentRedirect", StorageUnavailable),
        ("429 Too Many Requests", "TooManyRequests", StorageUnavailable),
        ("500 Internal Server Error", "InternalError", StorageUnavailable),
        ("503 Service Unavailable", "SlowDown", StorageUnavailable),
    ],
)
def test_error_codes(content_type: str, status: str, code: str, expected: type[JobError]) -> None:
    """S3's word decides, in whichever kind of XML it comes; the message repeats it."""
    answer = http_answer(status, error_xml(code), Content_Type=content_type)
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        with pytest.raises(expected, match=f"bucket 'bucket', key 'k'.*{code}: Why"):
            fetch(connect(server))
        assert len(server.requests) == 1  # the pipeline has its own retries, with backoff


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (http_answer("404 Not Found", b"<html>no</html>"), ObjectNotFound),
        (http_answer("403 Forbidden"), AccessDenied),
        (http_answer("401 Unauthorized", b"who?", Content_Type="text/plain"), AccessDenied),
        (http_answer("502 Bad Gateway", b"\xff\xfe", Content_Type="text/html"), StorageUnavailable),
        (http_answer("500 Oh", b"<Err", Content_Type="application/xml"), StorageUnavailable),
        (http_answer("500 Oh", b"", Content_Type="application/xml"), StorageUnavailable),
        (http_answer("204 No Content"), StorageUnavailable),
        (http_answer("206 Partial Content", b"part"), StorageUnavailable),
        (http_answer("307 Elsewhere", Location="http://127.0.0.1:1/bucket/k"), StorageUnavailable),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", StorageUnavailable),
    ],
)
def test_answers_that_are_not_s3s(answer: bytes, expected: type[JobError]) -> None:
    """Where no S3 code is given, the status decides; what makes no sense is an outage."""
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        with pytest.raises(expected):
            fetch(connect(server))
        assert len(server.requests) == 1


def test_check_wants_s3_behind_the_address() -> None:
    """A web server that finds nothing is not taken for an S3 server."""
    answer = http_answer("404 Not Found", b"<html>no</html>")
    with (
        scripted_server(lambda exchange: exchange.send(answer)) as server,
        pytest.raises(StorageUnavailable, match="EMO_STORE"),
    ):
        connect(server).check()


def test_the_body_of_a_large_object_is_not_read() -> None:
    """An object over the limit is refused by its headers, and the connection is hung up."""
    hung_up = threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", Content_Length=str(GIGABYTE)))
        if exchange.hung_up():
            hung_up.set()

    with scripted_server(script) as server:
        with pytest.raises(ObjectTooLarge, match=str(GIGABYTE)):
            fetch(connect(server))
        assert hung_up.wait(TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    "answer",
    [
        http_answer("200 OK", b"short", Content_Length="1000"),
        http_answer("200 OK", b"", Content_Length="1000"),
        b"HTTP/1.1 200",
        b"",
    ],
)
def test_answer_that_breaks_off(answer: bytes) -> None:
    """A body or header that ends early is an outage, and nothing stays open."""

    def script(exchange: Exchange) -> None:
        exchange.send(answer)
        raise ConnectionResetError

    gc.collect()  # of what earlier tests left, nothing stays open either
    with scripted_server(script) as server, pytest.raises(StorageUnavailable, match="key 'k'"):
        fetch(connect(server))
    assert not [fd for fd in os.listdir("/proc/self/fd") if is_object(fd)]


def is_object(fd: str) -> bool:
    """Whether the descriptor is the memfd of a blob."""
    try:
        return "memfd:object" in os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # listing the directory had it open
        return False


def test_body_longer_than_declared() -> None:
    """Only the declared bytes are the object, and the rest is not taken for the next answer."""
    answer = http_answer("200 OK", b"body and more", Content_Length="4")
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        store = connect(server)
        assert [fetch(store) for _ in range(3)] == [b"body"] * 3


@pytest.mark.parametrize("encoding", [{"Transfer_Encoding": "chunked"}, {"Content_Length": "?"}])
def test_body_of_unknown_length(encoding: dict[str, str]) -> None:
    """A length that is not known beforehand cannot be checked, so the answer is refused."""
    answer = http_answer("200 OK", b"4\r\nbody\r\n0\r\n\r\n", **encoding)
    with (
        scripted_server(lambda exchange: exchange.send(answer)) as server,
        pytest.raises(StorageUnavailable, match="length None"),
    ):
        fetch(connect(server))


def test_compressed_objects_come_as_they_are_stored() -> None:
    """Content-Encoding describes the object; its bytes are not unpacked past the size limit."""
    answer = http_answer("200 OK", b"\x1f\x8b not gzip", Content_Encoding="gzip")
    with scripted_server(lambda exchange: exchange.send(answer)) as server:
        assert fetch(connect(server)) == b"\x1f\x8b not gzip"
