"""Probes and scrapes, as whoever asks a worker sends them."""

import urllib.error
import urllib.request

from tests.support.polling import TIMEOUT_SECONDS


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(
            f"http://{host}:{port}{path}", timeout=TIMEOUT_SECONDS
        ) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
