"""One attempt, to real servers: what is delivered, what is not, and where nothing is sent to."""

import email.utils
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from producer.control.webhooks import destinations
from producer.control.webhooks.destinations import Destinations, parse_hosts
from producer.control.webhooks.message import parse_secrets
from producer.control.webhooks.sender import Attempt, Sender
from storage.queue.webhooks import Webhook
from tests.support.certificates import Authority
from tests.support.webhook_receiver import (
    SECRET,
    Answer,
    Receiver,
    Slow,
    drip,
    endless_head,
    flood,
    status,
)

IMPATIENT_SECONDS = 0.4


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that takes everything."""
    with Receiver() as receiver:
        yield receiver


def webhook(url: str) -> Webhook:
    """The end of a job."""
    fields = {"callback": url, "job": "a.b", "run": "1", "status": "done", "finished_at_ms": "1"}
    return Webhook("1-1", 1, fields)


def sender(hosts: str = "", *, http: bool = True, **options: Any) -> Sender:
    """A sender that may reach those hosts; without any, what is public."""
    resolve = options.pop("resolve", socket.getaddrinfo)
    judge = Destinations(parse_hosts(hosts), allow_http=http, resolve=resolve)
    options = {"timeout_seconds": 60.0, **options}
    return Sender(judge, parse_secrets(SECRET), **options)


def local(receiver: Receiver, **options: Any) -> Sender:
    """A sender that may reach that receiver."""
    return sender(f"127.0.0.1:{receiver.port}", **options)


def test_a_webhook_is_delivered_and_signed(receiver: Receiver) -> None:
    """With what the specification wants in its headers, and the target as it was given."""
    assert local(receiver).send(webhook(receiver.url("/a%20b?c=d#e"))) == Attempt(True)
    ((path, head),) = receiver.requests
    assert path == "/a%20b?c=d"
    assert head["Content-Type"] == "application/json"
    assert head["Host"] == f"127.0.0.1:{receiver.port}"
    assert receiver.ids == ["a~b:1"]
    assert receiver.got[0]["data"]["job"] == "a.b"
    assert receiver.wrong == []


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
def test_any_2xx_will_do(receiver: Receiver, code: int) -> None:
    """Whatever else the answer holds is not read."""
    receiver.answer = status(code)
    assert local(receiver).send(webhook(receiver.url())).delivered


@pytest.mark.parametrize(
    ("code", "final"),
    [(301, False), (400, False), (404, False), (410, True), (429, False), (500, False)],
)
def test_anything_else_is_a_failure(receiver: Receiver, code: int, final: bool) -> None:
    """And 410 says that nobody wants it any more."""
    receiver.answer = status(code)
    attempt = local(receiver).send(webhook(receiver.url()))
    assert (attempt.delivered, attempt.final) == (False, final)
    assert attempt.why.startswith(f"HTTP {code}")


def test_no_redirect_is_followed(receiver: Receiver) -> None:
    """It could lead to where no callback may."""
    with Receiver() as inside:
        for code in (301, 302, 303, 307, 308):
            receiver.answer = status(code, Location=inside.url())
            hosts = f"127.0.0.1:{receiver.port}, 127.0.0.1:{inside.port}"
            attempt = sender(hosts).send(webhook(receiver.url()))
            assert not attempt.delivered
            assert "redirect" in attempt.why
        assert inside.requests == []
        assert len(receiver.requests) == 5


def test_a_receiver_may_ask_for_patience(receiver: Receiver) -> None:
    """In seconds, or until a date."""
    at = time.time()
    for text, seconds in (
        ("120", 120.0),
        (email.utils.formatdate(at + 60, usegmt=True), 60.0),
        (email.utils.formatdate(at - 60, usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 400, None),
        (f"Mon, {'9' * 20} Jan 2020 00:00:00 GMT", None),
        (f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT", None),
        (f"Mon, 01 Jan 2020 {'9' * 20}:00:00 GMT", None),
        (f"Mon, 01 Jan 2020 00:00:00 +{'9' * 20}", None),
    ):
        receiver.answer = status(503, Retry_After=text)
        attempt = local(receiver, now=lambda: at).send(webhook(receiver.url()))
        assert attempt.retry_after_seconds == (
            None if seconds is None else pytest.approx(seconds, abs=1)
        )


@pytest.mark.parametrize("answer", [Slow(), drip], ids=["slow", "drip"])
def test_an_answer_is_waited_for_in_all_not_byte_by_byte(
    receiver: Receiver, answer: Answer
) -> None:
    """A server that sends its head bit by bit, for minutes, holds nobody."""
    receiver.answer = answer
    attempt = local(receiver, timeout_seconds=IMPATIENT_SECONDS).send(webhook(receiver.url()))
    assert attempt == Attempt(False, f"no answer within {IMPATIENT_SECONDS:g} s")


def test_a_head_without_end_is_not_read(receiver: Receiver) -> None:
    """It is given up long before its time is over."""
    receiver.answer = endless_head
    attempt = local(receiver).send(webhook(receiver.url()))
    assert not attempt.delivered
    assert "no answer within" not in attempt.why


def test_a_body_without_end_is_not_read(receiver: Receiver) -> None:
    """The status has said it all."""
    flooded: list[int] = []
    receiver.answer = lambda handler: flood(handler, flooded)
    assert local(receiver).send(webhook(receiver.url())).delivered
    assert sum(flooded) < 50_000_000, "more than sockets hold"


def test_nobody_there_is_a_failure() -> None:
    """So is one who hangs up, and one who speaks no HTTP."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        attempt = sender(f"127.0.0.1:{port}").send(webhook(f"http://127.0.0.1:{port}/"))
    assert (attempt.delivered, attempt.final) == (False, False)
    assert attempt.why == "Connection refused"


@pytest.mark.parametrize(
    "answer",
    [lambda handler: None, lambda handler: handler.wfile.write(b"220 smtp ready\r\n")],
    ids=["hangs up", "no HTTP"],
)
def test_what_is_no_answer_is_a_failure(receiver: Receiver, answer: Answer) -> None:
    """To be tried again."""
    receiver.answer = answer
    attempt = local(receiver).send(webhook(receiver.url()))
    assert (attempt.delivered, attempt.final) == (False, False)
    assert attempt.why


def test_a_name_that_does_not_resolve_is_tried_again() -> None:
    """The resolver may be what is broken."""
    attempt = sender().send(webhook("https://no-such-host.invalid/"))
    assert (attempt.delivered, attempt.final) == (False, False)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "169.254.169.254", "[::1]", "[::ffff:7f00:1]"]
)
def test_nothing_is_sent_to_ourselves(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver, host: str
) -> None:
    """Loopback, link-local, and names that resolve to them; at any port that would be allowed."""
    monkeypatch.setattr(
        "storage.wire.callback._DEFAULT_PORTS", {"http": receiver.port, "https": 443}
    )
    attempt = sender().send(webhook(f"http://{host}/"))
    assert attempt.final
    assert attempt.why.startswith("refused: ")
    assert receiver.requests == []


def flipping(*addresses: str) -> tuple[Callable[..., Any], list[str]]:
    """A name that means another address each time it is asked for; and what was asked."""
    left, asked = list(addresses), []

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        asked.append(host)
        address = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve, asked


def both_at_one_port(host: str, other: str) -> tuple[Receiver, Receiver]:
    """Two that will listen on these addresses; a port free on one may be taken on the other."""
    while True:
        first = Receiver(host=host)
        try:
            return first, Receiver(host=other, port=first.port)
        except OSError:
            first.close()


def test_a_name_that_changes_its_address_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection goes to the address that was judged, and nobody asks for the name again."""
    monkeypatch.setattr(destinations, "is_public", lambda address: address == "127.0.0.2")
    inside, outside = both_at_one_port("127.0.0.1", "127.0.0.2")
    with inside, outside:
        monkeypatch.setattr(
            "storage.wire.callback._DEFAULT_PORTS", {"http": outside.port, "https": 443}
        )
        resolve, asked = flipping("127.0.0.2", "127.0.0.1")

        def never(*_: Any, **__: Any) -> Any:
            raise AssertionError("a name was looked up again")

        monkeypatch.setattr(socket, "getaddrinfo", never)
        rebinding = sender(resolve=resolve)
        assert rebinding.send(webhook("http://rebind.example.org/")).delivered
        assert asked == ["rebind.example.org"]
        assert rebinding.send(webhook("http://rebind.example.org/")).final
        assert len(outside.got) == 1
        assert inside.requests == []


def test_the_next_address_is_tried_where_one_does_not_answer(receiver: Receiver) -> None:
    """Hosts with IPv6 in the DNS alone are many."""

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        there = ("127.0.0.1", receiver.port)
        nobody = ("127.0.0.3", receiver.port)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in (nobody, there)]

    assert local(receiver, resolve=resolve).send(webhook(receiver.url())).delivered


def test_tls_is_for_the_name_though_the_address_is_used(tmp_path: Path) -> None:
    """A certificate for the host is asked for, of an authority that is trusted."""
    authority = Authority(tmp_path, "authority")
    certificate = authority.sign("hooks.example.org", address="127.0.0.1")
    trusting = ssl.create_default_context(cafile=str(authority.file))

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with Receiver(certificate=certificate) as receiver:
        at = f"https://127.0.0.1:{receiver.port}/"
        hosts = f"127.0.0.1:{receiver.port}, other.example.org:{receiver.port}"
        options: dict[str, Any] = {"http": False, "resolve": resolve}
        assert sender(hosts, context=trusting, **options).send(webhook(at)).delivered
        other = webhook(f"https://other.example.org:{receiver.port}/")
        for context, asked in ((trusting, other), (None, webhook(at))):
            attempt = sender(hosts, context=context, **options).send(asked)
            assert (attempt.delivered, attempt.final) == (False, False)
            assert attempt.why.startswith("TLS: ")
        assert len(receiver.got) == 1
