"""The S3 store against real servers: rclone, which checks signatures, and moto."""

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from minio import Minio

import storage.objects.s3
from storage.errors import (
    AccessDenied,
    InvalidJob,
    JobError,
    ObjectNotFound,
    ObjectTooLarge,
    StorageUnavailable,
)
from storage.objects.store import ManagedStore, ObjectStore, open_store
from tests.support.blobs import contents
from tests.support.moto_server import moto_server
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, s3_server

ODD_KEYS = [
    "calls/2026/a b.wav",
    "généré/感情 🎧.wav",
    "a+b.wav",
    "100%25.wav",
    "a&b=c?d#e.wav",
    "'quoted\" (1)~!*.wav",
    "a;b:c@d,$e.wav",
    "back\\slash.wav",
]


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server with the buckets `audio` and `calls`, and one object made by somebody else."""
    directory = tmp_path_factory.mktemp("s3")
    (directory / "audio").mkdir()
    (directory / "calls").mkdir()
    (directory / "audio" / "a b+c%20d é.wav").write_bytes(b"RIFF")
    with s3_server(directory) as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of a moto server with one bucket, `audio`."""
    with moto_server() as address:
        Minio(address, "any", "any", secure=False, region="us-east-1").make_bucket("audio")
        yield address


@pytest.fixture
def store(rclone: S3Server) -> ManagedStore:
    """The rclone server's bucket, with the right credentials."""
    return connect(rclone.url("audio"))


def connect(url: str, secret_key: str = SECRET_KEY, access_key: str = ACCESS_KEY) -> ManagedStore:
    """A store that gives up in a minute."""
    return open_store(url, access_key=access_key, secret_key=secret_key, timeout_seconds=60)


def read(store: ObjectStore, key: str, bucket: str | None = None) -> bytes:
    """The object's bytes."""
    with store.fetch(key, bucket=bucket, max_bytes=10_000_000) as blob:
        return contents(blob)


@pytest.mark.parametrize("size", [0, 1, 160_000, 1_000_001])
def test_put_then_fetch(store: ObjectStore, size: int) -> None:
    """What was put is fetched again, whatever its size."""
    data = bytes(range(251)) * (size // 251 + 1)
    store.put("round/trip.npy", memoryview(data)[:size], content_type="application/octet-stream")
    admitted: list[int] = []
    with store.fetch("round/trip.npy", max_bytes=size, admit=admitted.append) as blob:
        assert blob.size == size
        assert contents(blob) == data[:size]
    assert admitted == [size]


def test_delete(store: ManagedStore, moto: str) -> None:
    """It is gone, once and again."""
    for each in (store, connect(f"s3://{moto}/audio")):
        each.put("gone/a b.wav", b"RIFF", content_type="audio/wav")
        each.put("gone/b.wav", b"RIFF", content_type="audio/wav")
        for _ in range(2):
            each.delete("gone/a b.wav")
        with pytest.raises(ObjectNotFound):
            read(each, "gone/a b.wav")
        assert read(each, "gone/b.wav") == b"RIFF"


def test_put_in_parts(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An output larger than one part arrives whole."""
    monkeypatch.setattr(storage.objects.s3, "_OUTPUT_PART_BYTES", 5 * 1024 * 1024)
    data = bytes(range(256)) * 4 * 1024 * 6
    store.put("large.npy", data, content_type="application/octet-stream")
    assert read(store, "large.npy") == data


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_keys(store: ObjectStore, moto: str, key: str) -> None:
    """A key means itself: no character of it is decoded, normalised or lost."""
    for each in (store, connect(f"s3://{moto}/audio")):
        each.put(key, key.encode(), content_type="audio/wav")
        assert read(each, key) == key.encode()


def test_object_written_by_another_program(store: ObjectStore) -> None:
    """An object that somebody else stored is found by its name."""
    assert read(store, "a b+c%20d é.wav") == b"RIFF"


def test_leading_slash_is_part_of_the_key(moto: str) -> None:
    """S3 knows `a` and `/a` as two objects."""
    store = connect(f"s3://{moto}/audio")
    store.put("a.wav", b"without", content_type="audio/wav")
    store.put("/a.wav", b"with", content_type="audio/wav")
    assert (read(store, "a.wav"), read(store, "/a.wav")) == (b"without", b"with")


def test_the_jobs_bucket_replaces_the_stores(store: ObjectStore) -> None:
    """A job may name another bucket of the same server."""
    store.put("in-calls.wav", b"calls", content_type="audio/wav", bucket="calls")
    assert read(store, "in-calls.wav", bucket="calls") == b"calls"
    with pytest.raises(ObjectNotFound):
        read(store, "in-calls.wav")


def test_a_bucket_that_is_not_allowed_is_not_asked_for(rclone: S3Server) -> None:
    """Its own and those that are named can be read; of another the server hears nothing."""
    keys: dict[str, Any] = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    own = open_store(rclone.url("audio"), buckets=[], **keys)
    with pytest.raises(AccessDenied, match="EMO_BUCKETS"):
        read(own, "a.wav", bucket="calls")
    named = open_store(rclone.url("audio"), buckets=["calls"], **keys)
    named.put("b.wav", b"calls", content_type="audio/wav", bucket="calls")
    named.put("b.wav", b"audio", content_type="audio/wav")
    assert read(named, "b.wav", bucket="calls") == b"calls"
    assert read(own, "b.wav") == read(named, "b.wav", bucket="audio") == b"audio"
    nowhere = open_store("s3://127.0.0.1:1/audio", buckets=[], **keys)
    with pytest.raises(AccessDenied):
        read(nowhere, "a.wav", bucket="calls")


def test_missing_object_or_bucket(store: ObjectStore, moto: str) -> None:
    """What is not there is not found, and the message names bucket and key."""
    for each in (store, connect(f"s3://{moto}/audio")):
        with pytest.raises(ObjectNotFound, match=r"bucket 'audio', key 'gone.wav'.*NoSuchKey"):
            read(each, "gone.wav")
        with pytest.raises(ObjectNotFound, match=r"bucket 'gone', key 'a.wav'.*NoSuchBucket"):
            read(each, "a.wav", bucket="gone")


def test_too_large(store: ObjectStore) -> None:
    """An object over the limit is refused before the budget hears of it; the store goes on."""
    store.put("large.wav", bytes(1_000_000), content_type="audio/wav")
    admitted: list[int] = []
    with pytest.raises(ObjectTooLarge, match=r"1000000 bytes; EMO_MAX_OBJECT_BYTES allows 999999"):
        store.fetch("large.wav", max_bytes=999_999, admit=admitted.append)
    assert admitted == []
    assert len(read(store, "large.wav")) == 1_000_000


@pytest.mark.parametrize(
    ("secret_key", "access_key"), [("wrong", ACCESS_KEY), (SECRET_KEY, "wrong"), ("", "")]
)
def test_wrong_credentials(rclone: S3Server, secret_key: str, access_key: str) -> None:
    """Wrong or no credentials are an access error that names the settings."""
    store = connect(rclone.url("audio"), secret_key, access_key)
    for call in (store.check, lambda: read(store, "a.wav"), lambda: put(store)):
        with pytest.raises(AccessDenied, match="EMO_S3_SECRET_KEY"):
            call()


def put(store: ObjectStore) -> None:
    """Store something."""
    store.put("a.wav", b"RIFF", content_type="audio/wav")


@pytest.mark.parametrize(
    ("bucket", "key"),
    [
        ("audio", "../secret"),
        ("audio", "calls/./a.wav"),
        ("audio", " "),
        ("audio", "\ud800"),
        ("Not/a bucket", "a.wav"),
        ("..", "a.wav"),
    ],
)
def test_names_that_s3_cannot_have(store: ObjectStore, bucket: str, key: str) -> None:
    """A bucket or key that would end up in another place of the URL is an invalid job."""
    with pytest.raises(InvalidJob, match="key "):
        read(store, key, bucket=bucket)


def test_check(rclone: S3Server, moto: str) -> None:
    """A bucket that is there passes; one that is not is reported with its server's address."""
    for address in (rclone.address, moto):
        connect(f"s3://{address}/audio").check()
        with pytest.raises(StorageUnavailable, match=rf"'gone' at {address}.*create it"):
            connect(f"s3://{address}/gone").check()


def test_check_when_the_probe_exists(store: ObjectStore) -> None:
    """An object under the probe's own key does no harm."""
    store.put(storage.objects.s3.PROBE_KEY, b"hello", content_type="text/plain")
    store.check()


def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """s3s:// verifies the server's certificate, and reads and writes through TLS."""
    certificate, private_key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    make_certificate(certificate, private_key)
    (tmp_path / "s3" / "audio").mkdir(parents=True)
    with s3_server(tmp_path / "s3", certificate=certificate, private_key=private_key) as server:
        url = server.url("audio").replace("s3://", "s3s://")
        with pytest.raises(StorageUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            connect(url).check()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        store = connect(url)
        store.check()
        store.put("a.wav", bytes(100_000), content_type="audio/wav")
        assert read(store, "a.wav") == bytes(100_000)


def make_certificate(certificate: Path, private_key: Path) -> None:
    """Write a certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emostream tests")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private_key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def test_store_that_is_not_there() -> None:
    """A server that refuses connections is unavailable, and nothing to do with the job."""
    store = connect("s3://127.0.0.1:1/audio")
    for call in (store.check, lambda: read(store, "a.wav"), lambda: put(store)):
        with pytest.raises(StorageUnavailable, match="EMO_STORE") as caught:
            call()
        assert isinstance(caught.value, JobError) and caught.value.retryable


@pytest.mark.parametrize("key", ["/calls/a.wav", "calls//a.wav", "//a.wav"])
def test_a_key_that_the_server_cannot_have_fails_its_job(rclone: S3Server, key: str) -> None:
    """The server is well, and would answer the same a fifth time."""
    store = open_store(
        rclone.url("audio"), access_key=ACCESS_KEY, secret_key=SECRET_KEY, timeout_seconds=60
    )
    with pytest.raises(InvalidJob, match="no key for this server") as caught:
        store.fetch(key, max_bytes=1000)
    assert not caught.value.retryable
