"""The URL that the end of a job is told to.

As strict as it can be while the job can still say so: what two programs could read in two ways
names nobody. keep_callback in storage/queue/lua/ending.lua looks for the same, roughly.
"""

import re
from dataclasses import dataclass

from storage.errors import InvalidJob

MOST_CHARACTERS = 2048
_HIGHEST_PORT = 65535
_DEFAULT_PORTS = {"http": 80, "https": 443}
# A name or an IPv4 address, or an IPv6 address without a zone.
_HOST = r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]"
_URL = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?([/?][!-\[\]-~]*)?")


@dataclass(frozen=True, slots=True)
class Callback:
    """A URL in parts: `host` in lower case, without brackets or a final dot; `target` is the rest.

    `authority` is what the Host header says.
    """

    secure: bool
    host: str
    port: int
    target: str

    @property
    def has_default_port(self) -> bool:
        """Whether the port is the one of the scheme."""
        return self.port == _DEFAULT_PORTS["https" if self.secure else "http"]

    @property
    def authority(self) -> str:
        """The host and, where it is not the scheme's, the port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.has_default_port else f"{host}:{self.port}"


def parse_callback(url: str) -> Callback:
    """Read a URL. Raises InvalidJob for one that cannot be called, and says why."""
    bare, _, _ = url.partition("#")
    match = _URL.fullmatch(bare) if len(url) <= MOST_CHARACTERS and url.isascii() else None
    if match is None:
        raise InvalidJob(f"field 'callback': {_why_not(url)}")
    scheme, host, port, target = match.groups()
    number = int(port) if port else _DEFAULT_PORTS[scheme]
    if not 1 <= number <= _HIGHEST_PORT:
        raise InvalidJob(f"field 'callback': {port} is no port")
    name = host.strip("[]").rstrip(".").lower()
    if not name:
        raise InvalidJob("field 'callback': names no host")
    path = target or "/"
    return Callback(
        secure=scheme == "https",
        host=name,
        port=number,
        target=path if path.startswith("/") else f"/{path}",
    )


def _why_not(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        return "not an http:// or https:// URL"
    if len(url) > MOST_CHARACTERS:
        return f"longer than {MOST_CHARACTERS} characters"
    if "@" in re.split(r"[/?#]", url.partition("://")[2])[0]:
        return "a user and a password have no place in it; what we send is signed"
    return (
        "its host and path must be plain ASCII: write names as in the DNS (xn--…), and everything "
        "else percent-encoded"
    )
