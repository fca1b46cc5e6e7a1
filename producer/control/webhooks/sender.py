"""One attempt to deliver a webhook: to an address that was judged, in bounded time and size."""

import email.utils
import http.client
import re
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from http import HTTPStatus

from producer.control.webhooks.destinations import Destinations, Place, Refused
from producer.control.webhooks.message import body, headers, is_whole
from storage.errors import InvalidJob
from storage.objects.bounded_http import BoundedResponse
from storage.queue.webhooks import Webhook
from storage.wire.callback import Callback, parse_callback

_LEAST_SECONDS = 0.01  # what is left is never nothing, which would be no limit at all
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of an attempt. `why` it was not delivered; `final`: no other is to be made.

    `retry_after_seconds` is what the receiver asked for.
    """

    delivered: bool
    why: str = ""
    final: bool = False
    retry_after_seconds: float | None = None


class _Head(BoundedResponse):
    """An answer of which the status and headers count: what comes behind them is not read."""

    def begin(self) -> None:
        http.client.HTTPResponse.begin(self)


class Sender:
    """Makes attempts. Thread-safe.

    `timeout_seconds` is for connecting, sending and the head of the answer together; resolving the
    name takes what the system's resolver allows. `now` gives unix seconds, for the signature.
    """

    def __init__(
        self,
        destinations: Destinations,
        secrets: Sequence[bytes],
        *,
        timeout_seconds: float,
        context: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._destinations = destinations
        self._secrets = tuple(secrets)
        self._timeout_seconds = timeout_seconds
        # The system's authorities, or those of SSL_CERT_FILE and SSL_CERT_DIR.
        self._context = context or ssl.create_default_context()
        self._now = now

    def send(self, webhook: Webhook) -> Attempt:
        """Make one attempt; raises nothing of the network's."""
        if not is_whole(webhook):
            return Attempt(False, "refused: no script of ours wrote it", final=True)
        try:
            callback = parse_callback(webhook.callback)
            places = self._destinations.places(callback)
        except (InvalidJob, Refused) as error:
            return Attempt(False, f"refused: {error}"[:_LONGEST_REASON], final=True)
        except OSError as error:
            return Attempt(False, _said(error))
        try:
            return self._ask(callback, places, webhook)
        except TimeoutError:
            return Attempt(False, f"no answer within {self._timeout_seconds:g} s")
        except (OSError, http.client.HTTPException, ValueError) as error:
            return Attempt(False, _said(error))

    def _ask(self, callback: Callback, places: Sequence[Place], webhook: Webhook) -> Attempt:
        until = time.monotonic() + self._timeout_seconds
        connection = http.client.HTTPConnection(callback.host, callback.port)
        connection.auto_open = 0  # to the one address, or nowhere
        connection.response_class = _Head
        try:
            connection.sock = self._connected(callback, places, until)
            sent = body(webhook)
            connection.putrequest(
                "POST", callback.target, skip_host=True, skip_accept_encoding=True
            )
            told = {
                "Host": callback.authority,
                "Content-Type": "application/json",
                "Content-Length": str(len(sent)),
                "User-Agent": "emostream",
                "Connection": "close",
                **headers(webhook, sent, self._secrets, self._now()),
            }
            for name, value in told.items():
                connection.putheader(name, value)
            connection.endheaders(sent)
            connection.sock.settimeout(_left(until))
            response = connection.getresponse()
            with response:
                return _judged(response, self._now())
        finally:
            connection.close()

    def _connected(
        self, callback: Callback, places: Sequence[Place], until: float
    ) -> socket.socket:
        """A connection to the first place that takes one. Raises OSError."""
        fault: OSError = OSError("no address")
        for place in places:
            sock = socket.socket(place.family, socket.SOCK_STREAM)
            try:
                sock.settimeout(_left(until))
                sock.connect(place.sockaddr)
                if callback.secure:
                    sock.settimeout(_left(until))
                    return self._context.wrap_socket(sock, server_hostname=callback.host)
            except OSError as error:
                sock.close()
                fault = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise fault


def _left(until: float) -> float:
    """Seconds. Raises TimeoutError where there are none."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return max(_LEAST_SECONDS, left)


def _judged(response: http.client.HTTPResponse, now: float) -> Attempt:
    status = response.status
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Attempt(True)
    why = f"HTTP {status}"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        why += ", and no redirect is followed"
    return Attempt(
        False,
        why,
        final=status == HTTPStatus.GONE,
        retry_after_seconds=_retry_after(response.headers.get("Retry-After", ""), now),
    )


def _retry_after(text: str, now: float) -> float | None:
    """Seconds from now, as a number or a date says; None for anything else."""
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return float(text)
    try:
        at = email.utils.parsedate_to_datetime(text)
        return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _said(error: Exception) -> str:
    """An error in a line; what a server wrote in it is bounded."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"[:_LONGEST_REASON]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:_LONGEST_REASON]
    return (str(error) or type(error).__name__)[:_LONGEST_REASON]
