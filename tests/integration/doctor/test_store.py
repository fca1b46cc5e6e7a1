"""Stores that cannot be read, listed or written to; and that nothing stays in any."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.findings import found
from tests.support.iam import PolicyServer, policy_server
from tests.support.ports import own_port
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, S3Server, s3_server
from worker.doctor.findings import State
from worker.doctor.store import store
from worker.settings import WorkerSettings

READ, LIST, WRITE = (f"{what} EMO_STORE" for what in ("read", "list", "write"))
GET, LISTING, PUT, DELETE = "s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject"
ALL_WELL = {READ: State.OK, LIST: State.OK, WRITE: State.OK}


def look(**settings: Any) -> tuple[dict[str, State], str]:
    """The worst of each check, and all that was said."""
    said = found(store(WorkerSettings(**settings)))
    worst = {check: lines[-1][0] for check, lines in said.items()}
    return worst, "\n".join(text for lines in said.values() for _, text in lines)


@pytest.fixture(scope="module")
def policy() -> Iterator[PolicyServer]:
    """A server that looks at policies."""
    with policy_server() as server:
        yield server


@pytest.fixture
def policies(policy: PolicyServer) -> PolicyServer:
    """The same, with nothing in its bucket."""
    policy.empty()
    return policy


@pytest.mark.parametrize(
    ("name", "actions", "states", "said"),
    [
        ("all", [GET, LISTING, PUT, DELETE], ALL_WELL, "below emostream/"),
        ("blind", [GET, PUT, DELETE], {**ALL_WELL, LIST: State.WARN}, "cannot be listed"),
        ("reader", [GET, LISTING], {**ALL_WELL, WRITE: State.WARN}, "cannot be written to"),
        ("nobody", [LISTING, PUT], {READ: State.FAIL}, "EMO_STORE: "),
    ],
)
def test_what_a_policy_forbids(
    policies: PolicyServer,
    name: str,
    actions: Sequence[str],
    states: dict[str, State],
    said: str,
) -> None:
    """Each right by itself, and nothing is left there."""
    settings = policies.user(name, actions)
    worst, text = look(**settings)
    assert worst == {**dict.fromkeys((LIST, WRITE), State.SKIPPED), **states}
    assert said in text
    assert settings["s3_secret_key"] not in text
    assert policies.objects() == []


def test_what_cannot_be_deleted_is_named(policies: PolicyServer) -> None:
    """This server takes an object with a wrong digest, and its user may not delete."""
    worst, text = look(**policies.user("tidy", [GET, LISTING, PUT]))
    (left,) = policies.objects()
    assert worst == {**ALL_WELL, WRITE: State.WARN}
    assert f"{left} was written to see that, and may not be deleted" in text


@pytest.fixture(scope="module")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that looks at digests."""
    directory = tmp_path_factory.mktemp("s3")
    (directory / "audio").mkdir()
    with s3_server(directory) as server:
        yield server


def keys(secret: str = SECRET_KEY) -> dict[str, Any]:
    """Of that server."""
    return {"s3_access_key": ACCESS_KEY, "s3_secret_key": secret}


def test_a_server_as_it_should_be(rclone: S3Server) -> None:
    """No object is ever there, of whatever is tried."""
    worst, _ = look(store=rclone.url("audio"), **keys())
    assert worst == ALL_WELL
    assert [path for path in rclone.directory.rglob("*") if path.is_file()] == []


def test_servers_that_serve_nobody(rclone: S3Server) -> None:
    """Away, without that bucket, and with another key; the key is not shown."""
    for settings, said in (
        ({"store": f"s3://127.0.0.1:{own_port()}/audio", **keys()}, "refused"),
        ({"store": rclone.url("other"), **keys()}, "create it"),
        ({"store": rclone.url("audio"), **keys("hush-hush")}, "EMO_S3_SECRET_KEY"),
        ({}, "EMO_STORE is not set"),
    ):
        worst, text = look(**settings)
        assert worst == {READ: State.FAIL, LIST: State.SKIPPED, WRITE: State.SKIPPED}
        assert said in text
        assert "hush-hush" not in text


def test_a_directory_as_it_should_be(tmp_path: Path) -> None:
    """Nothing is left there, no directory on the way either."""
    assert look(store=tmp_path.as_uri())[0] == ALL_WELL
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_mounted_read_only(tmp_path: Path) -> None:
    """Audio is read from it, and outputs go nowhere; or elsewhere, which is looked at."""
    audio, outputs = tmp_path / "audio", tmp_path / "outputs"
    audio.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(audio)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NO right to mount here: nothing was tested on a read-only store")
    try:
        worst, text = look(store=audio.as_uri())
        assert worst == {**ALL_WELL, WRITE: State.WARN}
        assert "Read-only file system" in text
        both = {"store": audio.as_uri(), "output_store": outputs.as_uri()}
        assert look(**both)[0]["read EMO_OUTPUT_STORE"] is State.FAIL
        outputs.mkdir()
        worst, _ = look(**both)
        assert worst == {
            **{READ: State.OK, LIST: State.OK},
            **{"read EMO_OUTPUT_STORE": State.OK, "write EMO_OUTPUT_STORE": State.OK},
        }
    finally:
        subprocess.run(["umount", "--lazy", audio], check=True)
