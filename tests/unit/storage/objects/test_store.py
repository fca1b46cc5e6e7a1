"""`EMO_STORE` names a store, or is refused with a sentence that says how to write it."""

import subprocess
import sys
from pathlib import Path

import pytest

from storage.objects.directory import DirectoryStore
from storage.objects.s3 import S3Store
from storage.objects.store import open_store


def test_scheme_selects_the_store(tmp_path: Path) -> None:
    """file:// is a directory; s3:// and s3s:// are S3; nothing is connected to."""
    assert isinstance(open_store(f"file://{tmp_path}"), DirectoryStore)
    assert isinstance(open_store("s3://localhost:1/audio"), S3Store)
    assert isinstance(open_store("s3s://s3.eu-west-1.amazonaws.com/audio/"), S3Store)


def test_directory_with_encoded_characters(tmp_path: Path) -> None:
    """A percent-encoded character in a file URL stands for itself."""
    directory = tmp_path / "my #1 audio"
    directory.mkdir()
    open_store(f"file://{tmp_path}/my%20%231%20audio").check()


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("file://audio", "must be absolute"),
        ("file:audio", "must be absolute"),
        ("file:///audio#1", "%23"),
        ("/audio", "file:///directory"),
        ("http://localhost:9000/audio", "s3://host:port/bucket"),
        ("s3://audio", "s3://host:port/bucket"),
        ("s3s://host/audio/calls", "s3s://host:port/bucket"),
        ("s3://host:port/audio", "a port of digits"),
        ("s3://host/No_Bucket!", "a bucket's name as S3 allows it"),
        ("s3://user:secret@host/audio", "EMO_S3_ACCESS_KEY"),
    ],
)
def test_url_that_cannot_be_understood(url: str, advice: str) -> None:
    """A wrong URL is refused, and the message says how to write it without telling a secret."""
    with pytest.raises(ValueError, match=advice) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


def test_half_a_pair_of_credentials() -> None:
    """An access key without its secret is a mistake, not an anonymous request."""
    with pytest.raises(ValueError, match="EMO_S3_SECRET_KEY"):
        open_store("s3://localhost:1/audio", access_key="emostream")


def test_a_directory_store_does_not_import_the_s3_sdk(tmp_path: Path) -> None:
    """Programs that use a directory start without the S3 SDK's half second."""
    program = f"""
import sys
from storage.objects.store import open_store
open_store("file://{tmp_path}").check()
sys.exit("minio" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
