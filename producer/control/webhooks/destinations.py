"""Where webhooks may go: whoever may add a job chooses a URL, and we stand inside the network.

A name is resolved once, all its addresses are judged, and to one of these the connection is made: a
name that means another address a moment later changes nothing.
"""

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from storage.wire.callback import Callback

Address = IPv4Address | IPv6Address
Resolve = Callable[..., Sequence[tuple[Any, ...]]]
_LISTED = re.compile(
    r"((?:\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
)
_HIGHEST_PORT = 65535
# Of IPv6 all that is routed lies here; what is special in it is judged besides.
_GLOBAL_UNICAST = ip_network("2000::/3")
# An IPv4 address is the last four bytes of these: translated on the way.
_NAT64 = ip_network("64:ff9b::/96")
# Tunnels by other hosts, whose address says nothing of where they end; and what Python 3.11's
# `is_global` does not know to be no place of the internet.
_NOWHERE = [
    ip_network(text)
    for text in (
        "2002::/16",  # 6to4
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",
        "3fff::/20",
        "192.88.99.0/24",  # relays of 6to4
        "192.0.0.0/24",
    )
]


class Refused(Exception):
    """A callback that must not be called; the message says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address that was judged, as sockets take it."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ListedHost:
    """A host that may be called: by its name, or with `*.` any below it; None is the usual port."""

    name: str
    port: int | None

    def holds(self, callback: Callback) -> bool:
        """Whether the callback names it."""
        same_port = callback.has_default_port if self.port is None else callback.port == self.port
        if self.name.startswith("*."):
            return same_port and callback.host.endswith(self.name[1:])
        return same_port and callback.host == self.name


def parse_hosts(text: str) -> tuple[ListedHost, ...]:
    """`hooks.example.org, *.example.net, 10.0.0.7:8080`. Raises ValueError."""
    return tuple(_listed(word) for word in re.split(r"[\s,]+", text) if word)


def _listed(word: str) -> ListedHost:
    match = _LISTED.fullmatch(word)
    port = int(match[2]) if match and match[2] else None
    if match is None or (port is not None and not 1 <= port <= _HIGHEST_PORT):
        raise ValueError(
            f"{word[:80]!r} is no host; write hooks.example.org, *.example.org or host:8080"
        )
    return ListedHost(match[1].strip("[]").rstrip(".").lower(), port)


class Destinations:
    """Judges callbacks. Thread-safe as `resolve` is, which is `socket.getaddrinfo`.

    Where hosts are listed, they alone are called, whatever their address; but none at a link-local
    one, where clouds keep credentials. Otherwise public addresses alone, at the usual ports.
    """

    def __init__(
        self,
        hosts: Sequence[ListedHost],
        *,
        allow_http: bool,
        resolve: Resolve = socket.getaddrinfo,
    ) -> None:
        self._hosts = tuple(hosts)
        self._allow_http = allow_http
        self._resolve = resolve

    def places(self, callback: Callback) -> list[Place]:
        """Where to connect to, the first to be tried first.

        Raises Refused, and OSError where the name cannot be resolved now.
        """
        if not callback.secure and not self._allow_http:
            raise Refused("http:// is not encrypted, and EMO_WEBHOOK_HTTP does not allow it")
        if self._hosts and not any(host.holds(callback) for host in self._hosts):
            raise Refused(f"{callback.authority} is not among EMO_WEBHOOK_HOSTS")
        if not self._hosts and not callback.has_default_port:
            raise Refused(f"port {callback.port} is called only where EMO_WEBHOOK_HOSTS names it")
        try:
            found = self._resolve(callback.host, callback.port, type=socket.SOCK_STREAM)
        except UnicodeError:  # a label that is empty, or too long
            raise Refused(f"{callback.host[:80]} is no name of a host") from None
        allowed = is_no_trap if self._hosts else is_public
        for _, _, _, _, sockaddr in found:
            if not allowed(str(sockaddr[0])):
                raise Refused(f"{callback.host} is at {sockaddr[0]}, which is not to be called")
        if not found:
            raise OSError(f"{callback.host} has no address")
        return [Place(family, sockaddr) for family, _, _, _, sockaddr in found]


def is_public(text: str) -> bool:
    """Whether an address is one of the internet, and of one host."""
    address = _address(text)
    if address is None:
        return False
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not address.is_multicast and not _is_in(address, _NOWHERE)


def is_no_trap(text: str) -> bool:
    """Whether an address may be one that an operator means: private or not, but of one host."""
    address = _address(text)
    if address is None:
        return False
    return not (
        address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and not address.is_loopback)
    )


def _address(text: str) -> Address | None:
    """The address that packets are really for; None for one with a zone, which is link-local."""
    if "%" in text:
        return None
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(address.packed[-4:])
    return address


def _is_in(address: Address, networks: Sequence[Any]) -> bool:
    return any(
        address in network
        for network in networks
        if isinstance(network, IPv6Network) == isinstance(address, IPv6Address)
    )
