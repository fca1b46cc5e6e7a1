"""Which callbacks are called, and at which addresses."""

import socket
from typing import Any

import pytest

from producer.control.webhooks.destinations import Destinations, Refused, parse_hosts
from storage.wire.callback import parse_callback

PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"]
NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.255.254",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # behind a provider's NAT
    "169.254.169.254",  # where clouds keep credentials
    "0.0.0.0",
    "0.1.2.3",
    "255.255.255.255",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "192.0.0.9",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "203.0.113.7",
    "::",
    "::1",
    "::7f00:1",  # an IPv4 address in the old way
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::5db8:d70e",
    "2002:7f00:1::",
    "2002:5db8:d70e::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "5f00::1",
    "100::1",
]
TRAPS = [
    "169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "::ffff:169.254.169.254",
    "224.0.0.1",
    "0.0.0.0",
    "::",
    "ff02::1",
    "255.255.255.255",
    "64:ff9b::a9fe:a9fe",
]


def found(*addresses: str) -> Any:
    """A resolver that finds these, whatever it is asked."""

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return resolve


def places(url: str, hosts: str = "", *, resolve: Any, allow_http: bool = False) -> list[str]:
    """The addresses that it would be connected to."""
    destinations = Destinations(parse_hosts(hosts), allow_http=allow_http, resolve=resolve)
    return [str(place.sockaddr[0]) for place in destinations.places(parse_callback(url))]


def test_public_addresses_are_called() -> None:
    """All that the name has, in the resolver's order."""
    assert places("https://hooks.example.org/x", resolve=found(*PUBLIC)) == PUBLIC


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_others_are_refused(address: str) -> None:
    """Also where the name has a public one beside it."""
    for addresses in ([address], [PUBLIC[0], address]):
        with pytest.raises(Refused, match="not to be called"):
            places("https://hooks.example.org/", resolve=found(*addresses))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:7f00:1]/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://0/",
    ],
)
def test_the_loopback_is_refused_however_it_is_written(url: str) -> None:
    """By the system's own resolver, which knows more ways than we do."""
    with pytest.raises((Refused, socket.gaierror)):
        places(url, resolve=socket.getaddrinfo)


def test_http_is_refused_unless_it_is_allowed() -> None:
    """Listed or not."""
    for hosts in ("", "hooks.example.org"):
        with pytest.raises(Refused, match="EMO_WEBHOOK_HTTP"):
            places("http://hooks.example.org/", hosts, resolve=found(*PUBLIC))
        url = "http://hooks.example.org/"
        assert places(url, hosts, resolve=found(*PUBLIC), allow_http=True) == PUBLIC


def test_other_ports_are_for_listed_hosts() -> None:
    """A POST to a mail server or to a Redis is no webhook."""
    for port in (22, 25, 80, 6379, 8443):
        with pytest.raises(Refused, match=f"port {port}"):
            places(f"https://hooks.example.org:{port}/", resolve=found(*PUBLIC))
    assert places("https://hooks.example.org:443/", resolve=found(*PUBLIC)) == PUBLIC
    listed = "hooks.example.org:8443"
    assert places("https://hooks.example.org:8443/", listed, resolve=found(*PUBLIC)) == PUBLIC
    with pytest.raises(Refused, match="EMO_WEBHOOK_HOSTS"):
        places("https://hooks.example.org/", listed, resolve=found(*PUBLIC))


def test_listed_hosts_alone_are_called() -> None:
    """Without a look at others; and a star is for what is below."""
    hosts = "hooks.example.org *.example.net, [2001:db8::7], 10.0.0.7:8080"
    for url in (
        "https://hooks.example.org./",
        "https://a.b.Example.NET/",
        "https://[2001:db8::7]/",
        "https://10.0.0.7:8080/",
    ):
        assert places(url, hosts, resolve=found("10.0.0.7")) == ["10.0.0.7"]

    def asks(*_: Any, **__: Any) -> Any:
        raise AssertionError("a name that is not listed was looked up")

    for url in (
        "https://example.net/",
        "https://badexample.net/",
        "https://example.org/",
        "https://hooks.example.org.evil.com/",
        "https://10.0.0.7/",
    ):
        with pytest.raises(Refused, match="EMO_WEBHOOK_HOSTS"):
            places(url, hosts, resolve=asks)


@pytest.mark.parametrize("address", TRAPS)
def test_a_listed_host_is_not_called_at_a_trap(address: str) -> None:
    """Its name may be another's by now; and clouds keep credentials at a link-local address."""
    with pytest.raises(Refused, match="not to be called"):
        places("https://hooks.example.org/", "hooks.example.org", resolve=found(address))


def test_a_name_that_is_none_is_refused() -> None:
    """The resolver would not take it, now or ever."""
    for host in ("a..b", "a" * 64 + ".org"):
        with pytest.raises(Refused, match="no name"):
            places(f"https://{host}/", resolve=socket.getaddrinfo)


@pytest.mark.parametrize(
    "text", ["http://h/", "h:0", "h:65536", "h:x", "*", "a b:/", "user@h", "*.*.h"]
)
def test_what_is_no_host_is_said(text: str) -> None:
    """At the start, by the settings."""
    with pytest.raises(ValueError, match="is no host"):
        parse_hosts(text)
