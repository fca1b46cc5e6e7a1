"""What a receiver is sent: a thin body, and the headers of the Standard Webhooks specification.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from storage.queue.webhooks import Webhook
from storage.wire.messages import JOB_ID

_PREFIX = "whsec_"
_SHORTEST_SECRET, _LONGEST_SECRET = 24, 64  # bytes, as the specification has it
_MOST_SECRETS = 2
_TEXTS = ("label", "error_code", "batch")


class InvalidSecret(ValueError):
    """A secret is none; the message says why, and does not show it."""


def parse_secrets(text: str) -> tuple[bytes, ...]:
    """`whsec_…`, or two of them with a comma while one takes over. Raises InvalidSecret."""
    named = [word for word in re.split(r"[\s,]+", text) if word]
    if len(named) > _MOST_SECRETS:
        raise InvalidSecret(f"{len(named)} secrets; at most two, the new one and the old one")
    return tuple(_secret(word) for word in named)


def _secret(word: str) -> bytes:
    try:
        secret = base64.b64decode(word.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        secret = b""
    if not word.startswith(_PREFIX) or not _SHORTEST_SECRET <= len(secret) <= _LONGEST_SECRET:
        raise InvalidSecret(
            f"must be {_PREFIX} and the base64 of {_SHORTEST_SECRET} to {_LONGEST_SECRET} random "
            f"bytes: echo {_PREFIX}$(openssl rand -base64 32)"
        )
    return secret


def is_whole(webhook: Webhook) -> bool:
    """Whether it says of which run of which job it is."""
    run = webhook.fields.get("run", "")
    return bool(JOB_ID.fullmatch(webhook.job) and re.fullmatch(r"[0-9]{1,14}", run))


def webhook_id(webhook: Webhook) -> str:
    """Job and run: the same for every attempt.

    The specification joins what is signed by full stops, so an id has none: `~` stands for each.
    """
    return f"{webhook.job.replace('.', '~')}:{webhook.fields.get('run', '1')}"


def body(webhook: Webhook) -> bytes:
    """JSON: `type`, `timestamp` of the end, and `data` with what the event says of the job."""
    fields = webhook.fields
    status = fields.get("status", "")
    data: dict[str, object] = {
        "job": webhook.job,
        "run": _whole(fields.get("run", "1")),
        "status": status,
    }
    data |= {name: fields[name] for name in _TEXTS if name in fields}
    score = _number(fields.get("score", ""))
    if score is not None:
        data["score"] = score
    ended = datetime.fromtimestamp(_whole(fields.get("finished_at_ms", "0")) / 1000, UTC)
    timestamp = ended.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {"type": f"job.{status}", "timestamp": timestamp, "data": data}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()


def headers(webhook: Webhook, sent: bytes, secrets: Sequence[bytes], at: float) -> dict[str, str]:
    """The three headers for that body, sent at that unix time; a signature by each secret."""
    name, timestamp = webhook_id(webhook), str(int(at))
    content = f"{name}.{timestamp}.".encode() + sent
    signatures = [hmac.digest(secret, content, hashlib.sha256) for secret in secrets]
    return {
        "webhook-id": name,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(
            f"v1,{base64.b64encode(signature).decode()}" for signature in signatures
        ),
    }


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"[0-9]{1,14}", text) else 0


def _number(text: str) -> float | None:
    """Anyone may have written it."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
