"""What is sent to receivers, checked by the specification's own library."""

import base64
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from producer.control.webhooks.message import (
    InvalidSecret,
    body,
    headers,
    parse_secrets,
    webhook_id,
)
from storage.queue.webhooks import Webhook
from tests.support.webhook_receiver import SECRET

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
DONE = {
    "callback": "https://hooks.example.org/",
    "job": "call.4711",
    "run": "2",
    "status": "done",
    "label": "happy",
    "score": "0.900001",
    "finished_at_ms": "1795338359601",
}


def webhook(**fields: str) -> Webhook:
    """The end of a job that is done, with other fields."""
    return Webhook("1-1", 1, {**DONE, **fields})


def test_the_body_is_thin_and_as_documented() -> None:
    """What ended, when and how; everything else is in Redis."""
    assert json.loads(body(webhook())) == {
        "type": "job.done",
        "timestamp": "2026-11-22T09:05:59.601Z",
        "data": {
            "job": "call.4711",
            "run": 2,
            "status": "done",
            "label": "happy",
            "score": 0.900001,
        },
    }
    failed = {"job": "x", "run": "1", "status": "failed", "error_code": "not_audio", "batch": "b"}
    assert json.loads(body(Webhook("1-1", 1, failed)))["data"] == {
        "job": "x",
        "run": 1,
        "status": "failed",
        "error_code": "not_audio",
        "batch": "b",
    }


@given(st.dictionaries(st.sampled_from(sorted(DONE)), st.text(max_size=40)))
def test_any_fields_make_a_body(fields: dict[str, str]) -> None:
    """Whoever may write to Redis may have written them."""
    assert set(json.loads(body(Webhook("1-1", 1, fields)))) == {"type", "timestamp", "data"}


def test_the_signature_is_that_of_the_specification() -> None:
    """For the body as it is sent; not for another, nor at another time."""
    sent = body(webhook())
    told = headers(webhook(), sent, parse_secrets(SECRET), time.time())
    assert Verifier(SECRET).verify(sent, told) == json.loads(sent)
    with pytest.raises(WebhookVerificationError):
        Verifier(SECRET).verify(sent + b" ", told)
    with pytest.raises(WebhookVerificationError, match="too old"):
        Verifier(SECRET).verify(sent, headers(webhook(), sent, parse_secrets(SECRET), 1e9))


def test_while_secrets_are_changed_both_sign() -> None:
    """A receiver that knows either of them is content."""
    sent = body(webhook())
    told = headers(webhook(), sent, parse_secrets(f"{SECRET}, {OLD}"), time.time())
    for secret in (SECRET, OLD):
        Verifier(secret).verify(sent, told)
    stranger = "whsec_" + base64.b64encode(b"s" * 24).decode()
    with pytest.raises(WebhookVerificationError):
        Verifier(stranger).verify(sent, told)


def test_an_id_is_of_job_and_run_and_has_no_full_stop() -> None:
    """The specification joins by them what is signed, and jobs choose their ids."""
    assert webhook_id(webhook()) == "call~4711:2"
    assert len({webhook_id(webhook(job=job)) for job in ("a.b", "a_b", "a-b", "a:b", "ab")}) == 5


@pytest.mark.parametrize(
    "text",
    [
        "hush",
        "whsec_",
        "whsec_!!!!",
        "whsec_" + base64.b64encode(b"x" * 23).decode(),
        "whsec_" + base64.b64encode(b"x" * 65).decode(),
        base64.b64encode(b"x" * 32).decode(),
        f"{SECRET},{OLD},{SECRET}",
    ],
)
def test_what_is_no_secret_is_refused_and_not_shown(text: str) -> None:
    """With what to do instead."""
    with pytest.raises(InvalidSecret, match=r"openssl|at most two") as refused:
        parse_secrets(text)
    told = text.removeprefix("whsec_")
    assert not told or told not in str(refused.value)
    assert parse_secrets("") == ()
