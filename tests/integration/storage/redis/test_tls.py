"""Redis over TLS, with the server's certificate checked and the client's asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError

from storage.queue.submission import Submissions
from storage.redis.connection import check_server, connect
from storage.redis.embedded import EmbeddedRedis
from storage.wire.messages import Job, Keys, Lane
from tests.support.certificates import Authority
from tests.support.polling import TIMEOUT_SECONDS
from tests.support.ports import own_port
from tests.support.redis_servers import binary


@dataclass(frozen=True, slots=True)
class TlsServer:
    """Where it listens, and the files that its clients need."""

    port: int
    directory: Path

    def url(self, *files: str, scheme: str = "rediss", host: str = "127.0.0.1") -> str:
        """The URL with these options, each `name=file`."""
        options = (option.replace("=", f"={self.directory}/") for option in files)
        return f"{scheme}://{host}:{self.port}?{'&'.join(options)}"


CA = "ssl_ca_certs=ours.pem"
CERTIFICATE = ("ssl_certfile=client.crt", "ssl_keyfile=client.key")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server that wants certificates of its clients. The wheels' servers cannot speak TLS."""
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory, "ours")
    Authority(directory, "theirs")
    certificate = authority.sign("server", address="127.0.0.1")
    authority.sign("client", address="127.0.0.1")
    port = own_port()
    options = (
        *("--tls-port", str(port), "--tls-ca-cert-file", str(authority.file)),
        *("--tls-cert-file", str(certificate.file), "--tls-key-file", str(certificate.key_file)),
    )
    with EmbeddedRedis(directory / "data", binary=binary("redis-7.0"), options=options):
        yield TlsServer(port, directory)


def test_a_job_is_submitted_over_tls(server: TlsServer) -> None:
    """With the CA and the client's certificate named in the URL."""
    with connect(
        server.url(CA, *CERTIFICATE), name="test", timeout_seconds=TIMEOUT_SECONDS
    ) as client:
        check_server(client, "emo")
        submissions = Submissions(client, keys=Keys("emo"), max_backlog=10)
        assert submissions.submit(Job("job", key="a.wav"), Lane.NORMAL).enqueued
        assert submissions.status("job")


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ((CA,), "127.0.0.1"),
        (CERTIFICATE, "127.0.0.1"),
        (("ssl_ca_certs=theirs.pem", *CERTIFICATE), "127.0.0.1"),
        ((CA, *CERTIFICATE), "localhost"),
    ],
    ids=["no certificate", "no authority", "another authority", "another name"],
)
def test_who_cannot_be_trusted_is_refused(
    server: TlsServer, options: tuple[str, ...], host: str
) -> None:
    """On either side, before a command is carried out."""
    with (
        connect(
            server.url(*options, host=host), name="test", timeout_seconds=TIMEOUT_SECONDS
        ) as client,
        pytest.raises(ConnectionError),
    ):
        client.ping()


def test_a_name_that_the_certificate_lacks_can_be_allowed(server: TlsServer) -> None:
    """Sentinels and clusters tell addresses, and certificates have names."""
    url = server.url(CA, *CERTIFICATE, host="localhost") + "&ssl_check_hostname=false"
    with connect(url, name="test", timeout_seconds=TIMEOUT_SECONDS) as client:
        assert client.ping()
