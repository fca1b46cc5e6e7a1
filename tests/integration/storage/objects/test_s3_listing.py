"""S3 objects listed, written from files and deleted: rclone, moto, and servers that do it wrong."""

import urllib.request
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from storage.errors import AccessDenied, ObjectNotFound, StorageUnavailable
from storage.objects.store import ManagedStore, open_store
from tests.support.moto_server import moto_server
from tests.support.s3_server import (
    ACCESS_KEY,
    SECRET_KEY,
    Exchange,
    http_answer,
    s3_server,
    scripted_server,
)

ODD = ["a.wav", "a/x.wav", "a-b/q", "a b+c%20d é&.wav", "B", "ab/c"]


def connect(url: str, secret_key: str = SECRET_KEY) -> ManagedStore:
    """A store there."""
    return open_store(url, access_key=ACCESS_KEY, secret_key=secret_key)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """A moto server with a bucket."""
    with moto_server() as address:
        asked = urllib.request.Request(f"http://{address}/listed", method="PUT")
        urllib.request.urlopen(asked).close()
        yield f"s3://{address}/listed"


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """An rclone server with a bucket, and where that lies."""
    directory = tmp_path_factory.mktemp("s3")
    (directory / "audio").mkdir()
    (directory / "long").mkdir()
    for number in range(2300):
        (directory / "long" / f"{number:05}.wav").touch()
    with s3_server(directory) as server:
        yield server.url("audio"), directory / "audio"


def test_keys_come_in_the_order_of_their_bytes(moto: str, rclone: tuple[str, Path]) -> None:
    """On both, from any place, by prefix, beyond one request's thousand."""
    for url in (moto, rclone[0]):
        store = connect(url)
        for key in ODD:
            store.put(key, key.encode(), content_type="audio/wav")
        ordered = sorted(ODD, key=str.encode)
        assert [each.key for each in store.list("")] == ordered
        for number, key in enumerate(ordered):
            assert [each.key for each in store.list("", after=key)] == ordered[number + 1 :]
        assert [each.key for each in store.list("a/")] == ["a/x.wav"]
        (found,) = store.list("B")
        assert (found.size_bytes, found.modified_s > 1e9) == (1, True)
        assert list(store.list("none/")) == []
        for key in ODD:
            store.delete(key)
        store.delete("gone")
        assert list(store.list("")) == []


def test_a_long_list_is_resumed(rclone: tuple[str, Path]) -> None:
    """Each page where the one before ended, each key once."""
    url, _ = rclone
    seen: list[str] = []
    while page := list(
        islice(connect(url).list("0", bucket="long", after=seen[-1] if seen else ""), 700)
    ):
        seen += [each.key for each in page]
    assert seen == [f"{number:05}.wav" for number in range(2300)]


def test_a_file_goes_up_in_parts(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, however few bytes of it are in memory."""
    monkeypatch.setattr("storage.objects.s3._FILE_PART_BYTES", 5 * 1024 * 1024)
    path = tmp_path / "big"
    path.write_bytes(bytes(range(256)) * 50_000)
    store = connect(moto)
    store.put_file("big", path, content_type="text/csv")
    with store.fetch("big", max_bytes=10**9) as blob:
        assert blob.size == path.stat().st_size
    store.delete("big")


def test_refusals_are_told(rclone: tuple[str, Path]) -> None:
    """A bucket that is not there, a key that is wrong, a server that is away."""
    url, _ = rclone
    with pytest.raises(ObjectNotFound, match="bucket 'gone'"):
        list(connect(url).list("", bucket="gone"))
    with pytest.raises(AccessDenied, match="list the bucket"):
        list(connect(url, secret_key="wrong").list(""))
    with pytest.raises(StorageUnavailable):
        list(connect("s3://127.0.0.1:1/audio").list(""))


@pytest.mark.parametrize(("keys", "after"), [(["b", "a"], ""), (["a", "a"], ""), (["a", "b"], "b")])
def test_a_server_without_order_is_refused(keys: list[str], after: str) -> None:
    """Such as ignores where to begin: to go on there would miss keys, or send them for ever."""
    contents = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    answered(contents, after, "name the keys in a manifest")


def test_an_answer_that_is_no_list_is_refused() -> None:
    """It is the server's fault, and no job's."""
    answered("<Contents></Contents>", "", "the answer is not S3's")


def answered(contents: str, after: str, why: str) -> None:
    """List from a server that answers so: it is refused."""
    body = (
        "<?xml version='1.0'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        "<Name>audio</Name><Prefix></Prefix>"
        f"<IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
    ).encode()

    def script(exchange: Exchange) -> None:
        exchange.send(http_answer("200 OK", body, Content_Type="application/xml"))

    with (
        scripted_server(script) as server,
        pytest.raises(StorageUnavailable, match=why),
    ):
        list(connect(server.url("audio")).list("", after=after))
