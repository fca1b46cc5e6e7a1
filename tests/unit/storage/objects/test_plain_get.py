"""The head of an object is read as the library would read it, or left to the library."""

import http.client
import socket
from unittest import mock

import pytest

from storage.objects.bounded_http import BoundedResponse
from storage.objects.plain_get import _Response

OBJECTS = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
    "small letters": b"HTTP/1.1 200 OK\r\ncontent-length:3\r\nx-amz-id-2: a:b \r\n\r\n",
    "what comes after it": b"HTTP/1.1 200 OK\r\nContent-Length:\t3 \r\nServer: s\r\n\r\n",
    "no reason": b"HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\n",
    "another length in a value": (
        b"HTTP/1.1 200 OK\r\nX: Content-Length: 9\r\nContent-Length: 3\r\n\r\n"
    ),
    "nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}
OTHERS = {
    "no length": b"HTTP/1.1 200 OK\r\nServer: s\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 1\r\n\r\n",
    "no number": b"HTTP/1.1 200 OK\r\nContent-Length: three\r\n\r\n",
    "a negative one": b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
    "two in one": b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
    "a digit of another script": b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\n",
    "a number of many digits": b"HTTP/1.1 200 OK\r\nContent-Length: %b3\r\n\r\n" % (b"0" * 30),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "an end": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n",
    "an older protocol": b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 1\r\nContent-Length: 3\r\n\r\n",
    "a line that is none": b"HTTP/1.1 200 OK\r\nwhat\r\nContent-Length: 3\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n",
    "line feeds alone": b"HTTP/1.1 200 OK\nContent-Length: 3\n\nX: \r\n\r\n",
    "a carriage return in a value": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 3\r\n\r\n",
    "a part": b"HTTP/1.1 206 Partial\r\nContent-Length: 3\r\n\r\n",
    "an error": b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n",
    "another answer first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    ),
    "a head longer than what is looked at": (
        b"HTTP/1.1 200 OK\r\nX: %b\r\nContent-Length: 3\r\n\r\n" % (b"x" * 9_000)
    ),
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "silence": b"",
}


def read(kind: type[BoundedResponse], sent: bytes) -> object:
    """What is made of an answer whose server hangs up after it, body included; or the error."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        response = kind(ours, method="GET")
        try:
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ConnectionError) as error:
            return type(error)
        finally:
            response.close()
        return response.status, response.chunked, response.will_close, response.length, body


@pytest.mark.parametrize("name", [*OBJECTS, *OTHERS])
def test_an_answer_is_what_the_library_makes_of_it(name: str) -> None:
    """Whoever reads its head: the status, where the body ends, and whether others may follow."""
    sent = (OBJECTS | OTHERS)[name] + b"abc"
    assert read(_Response, sent) == read(BoundedResponse, sent)


@pytest.mark.parametrize("name", [*OBJECTS, *OTHERS])
def test_the_parser_of_mails_is_spared_for_objects_alone(name: str) -> None:
    """Whatever else is to be known of an answer, the library finds out."""
    with mock.patch("http.client.parse_headers", wraps=http.client.parse_headers) as parsing:
        read(_Response, (OBJECTS | OTHERS)[name] + b"abc")
    assert not (parsing.called and name in OBJECTS)
    assert parsing.called or name in OBJECTS or name in ("no HTTP", "silence")


def test_a_head_that_comes_in_parts() -> None:
    """It is read when all of it has come."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        response = _Response(ours, method="GET")
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-")
        response.fp.peek()  # so much has come
        theirs.sendall(b"Length: 3\r\n\r\nabc")
        response.begin()
        assert response.read() == b"abc"
        response.close()
