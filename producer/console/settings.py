"""The console's settings. docs/settings.md is made from these."""

from ipaddress import ip_address, ip_network
from typing import Self
from urllib.parse import urlsplit

from pydantic import ByteSize, Field, SecretStr, model_validator

from storage.settings import Count, Seconds, SharedSettings, Size


class ConsoleSettings(SharedSettings):
    """Everything the console can be told."""

    output_store: str = Field(
        "", description="Where the workers' outputs are, as `EMO_STORE`; empty for the same store."
    )
    output_prefix: str = Field("emostream/", description="Key prefix of the outputs.")
    console_address: str = Field(
        "127.0.0.1:8642", description="Where the web console listens; port 0 takes a free one."
    )
    console_write: bool = Field(
        False,
        description="Let the page upload, cancel, pause, replay and correct; else it only shows.",
    )
    console_password: SecretStr = Field(
        SecretStr(""), description="Asked for before anything is shown; at least 8 characters."
    )
    console_open: bool = Field(
        False,
        description="Let other hosts in without a password, where a proxy in front asks for one.",
    )
    console_hosts: str = Field(
        "",
        description="Comma-separated: names that the page may be called by, beside the address, "
        "where there is no password.",
    )
    console_proxies: str = Field(
        "127.0.0.1,::1",
        description="Comma-separated: addresses or networks of proxies in front, which are "
        "believed in who asks, and whether by HTTPS (`X-Forwarded-For`, `X-Forwarded-Proto`).",
    )
    console_max_file_bytes: Size = Field(
        ByteSize(512 * 1024**2),
        description="Largest file that is taken; workers have `EMO_MAX_OBJECT_BYTES`.",
    )
    console_max_files: Count = Field(1000, description="Most files of one batch.")
    console_abandoned_seconds: Seconds = Field(
        3600, description="An upload that nobody goes on with for so long is given up."
    )

    @property
    def host(self) -> str:
        """The host part of the address, without brackets."""
        return urlsplit(f"//{self.console_address}").hostname or ""

    @property
    def port(self) -> int:
        """The port of the address."""
        return urlsplit(f"//{self.console_address}").port or 0

    @property
    def loopback(self) -> bool:
        """Whether this machine alone can reach it."""
        return is_loopback(self.host)

    @property
    def proxies(self) -> list[str]:
        """Addresses and networks of those that are believed in who asks."""
        return [each for each in map(str.strip, self.console_proxies.split(",")) if each]

    @model_validator(mode="after")
    def _is_guarded(self) -> Self:
        try:
            named = self.host and urlsplit(f"//{self.console_address}").port is not None
        except ValueError:
            named = False
        if not named:
            raise ValueError(f"EMO_CONSOLE_ADDRESS={self.console_address}: write host:port")
        for proxy in self.proxies:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"EMO_CONSOLE_PROXIES: {proxy!r}: {error}") from error
        password = self.console_password.get_secret_value()
        if password and len(password) < _SHORTEST_PASSWORD:
            raise ValueError(
                f"EMO_CONSOLE_PASSWORD: needs at least {_SHORTEST_PASSWORD} characters"
            )
        if not (self.loopback or password or self.console_open):
            raise ValueError(
                f"EMO_CONSOLE_ADDRESS={self.console_address}: other hosts could reach it without a "
                "login: set EMO_CONSOLE_PASSWORD, or EMO_CONSOLE_OPEN=true where a proxy asks"
            )
        return self


_SHORTEST_PASSWORD = 8


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
