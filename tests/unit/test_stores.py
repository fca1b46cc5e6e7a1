"""Secrets that go over a network as they are."""

from typing import Any

import pytest

from worker.settings import WorkerSettings
from worker.stores import in_plain_text

KEYS = {"s3_access_key": "key", "s3_secret_key": "S3CR3T"}


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"redis_url": "redis://:S3CR3T@redis:6379/0"}, ["EMO_REDIS_URL: redis"]),
        ({"redis_url": "redis://:S3CR3T@127.0.0.1:6379/0"}, []),
        ({"redis_url": "redis://:S3CR3T@localhost/0"}, []),
        ({"redis_url": "rediss://:S3CR3T@redis:6379/0"}, []),
        ({"redis_url": "redis://redis:6379/0"}, []),
        (
            {"redis_url": "redis+sentinel://:S3CR3T@a:1,b:2/m"},
            ["EMO_REDIS_URL: a", "EMO_REDIS_URL: b"],
        ),
        (
            {"redis_url": "redis+sentinel://a:1/m?sentinel_password=S3CR3T"},
            ["EMO_REDIS_URL: a"],
        ),
        (
            {"redis_url": "redis://localhost", "store": "s3://s3:9000/bucket", **KEYS},
            ["EMO_STORE: s3"],
        ),
        ({"redis_url": "redis://localhost", "store": "s3s://s3:9000/bucket", **KEYS}, []),
        ({"redis_url": "redis://localhost", "store": "s3://[::1]:9000/bucket", **KEYS}, []),
        ({"redis_url": "redis://localhost", "store": "s3://s3:9000/bucket"}, []),
        (
            {"redis_url": "redis://localhost", "output_store": "s3://s3:9000/bucket", **KEYS},
            ["EMO_OUTPUT_STORE: s3"],
        ),
    ],
)
def test_only_what_leaves_this_machine_unencrypted_is_warned_of(
    settings: dict[str, Any], warned: list[str]
) -> None:
    """With the setting and the host, and never the secret."""
    assert in_plain_text(WorkerSettings(**settings)) == warned
