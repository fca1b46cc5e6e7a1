"""An S3 server that looks at policies: moto's, with a user for each."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import boto3  # type: ignore[import-untyped]
from moto import settings
from moto.core.authorization import ActionAuthenticatorMixin

from tests.support.moto_server import moto_server

BUCKET = "audio"


class PolicyServer:
    """A running server with one bucket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._admin = {
            "endpoint_url": f"http://{address}",
            "region_name": "us-east-1",
            "aws_access_key_id": "admin",
            "aws_secret_access_key": "admin",
        }
        boto3.client("s3", **self._admin).create_bucket(Bucket=BUCKET)

    def objects(self) -> list[str]:
        """The keys of all that is there."""
        with _unguarded():
            listed: Any = boto3.client("s3", **self._admin).list_objects_v2(Bucket=BUCKET)
        return [each["Key"] for each in listed.get("Contents", [])]

    def empty(self) -> None:
        """Delete all that is there."""
        for key in self.objects():
            with _unguarded():
                boto3.client("s3", **self._admin).delete_object(Bucket=BUCKET, Key=key)

    def user(self, name: str, actions: Sequence[str]) -> dict[str, str]:
        """The settings of a user who may do these actions, and no other."""
        resources = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"]
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": resources}
        with _unguarded():
            iam: Any = boto3.client("iam", **self._admin)
            iam.create_user(UserName=name)
            document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
            keys = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "store": f"s3://{self.address}/{BUCKET}",
            "s3_access_key": keys["AccessKeyId"],
            "s3_secret_key": keys["SecretAccessKey"],
        }


@contextmanager
def policy_server() -> Iterator[PolicyServer]:
    """Run it; it looks at policies whenever its own side does not."""
    guarded = {"INITIAL_NO_AUTH_ACTION_COUNT": "0"}
    with moto_server() as address:
        made = PolicyServer(address)
        with (
            patch.dict(os.environ, guarded),
            patch.object(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0),
        ):
            yield made


@contextmanager
def _unguarded() -> Iterator[None]:
    """Within, everybody may do everything."""
    with (
        patch.object(settings, "INITIAL_NO_AUTH_ACTION_COUNT", float("inf")),
        patch.object(ActionAuthenticatorMixin, "request_count", 0),
    ):
        yield
