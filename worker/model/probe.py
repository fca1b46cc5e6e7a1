"""Notice within seconds that a model hub does not answer; its client would retry for minutes."""

import http.client
import queue
import ssl
import threading
import urllib.error
import urllib.request

from worker.model.manifest import ModelUnavailable

DEFAULT_PROBE_SECONDS = 10.0

_LOWEST_SERVER_FAULT = 500  # HTTP: from here on the server, not the request, is at fault


class HubUnreachable(ModelUnavailable):
    """The hub cannot be reached, does not answer in time, or answers that it is out of order."""


def probe(endpoint: str, model: str, limit_seconds: float) -> None:
    """Return once the hub answers, whatever it says about `model`; raise HubUnreachable."""
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    url = f"{endpoint}/api/v1/models/{model}"
    # A daemon thread: name resolution takes no timeout, and a hanging one cannot be stopped.
    threading.Thread(
        target=lambda: answer.put(_fault(url, 2 * limit_seconds)), name="hub-probe", daemon=True
    ).start()
    try:
        fault = answer.get(timeout=limit_seconds)
    except queue.Empty:
        fault = f"no answer within {limit_seconds:g} s"
    if fault is not None:
        raise HubUnreachable(
            f"The model hub {endpoint} cannot be used: {fault}. Check the network, set "
            "MODELSCOPE_ENDPOINT to a mirror, or set EMO_MODEL to a directory that holds the model."
        )


def _fault(url: str, timeout_seconds: float) -> str | None:
    """Ask once; None if there was an answer, otherwise what was wrong."""
    fault: str | None = None
    try:
        urllib.request.urlopen(url, timeout=timeout_seconds).close()
    except urllib.error.HTTPError as error:
        if error.code >= _LOWEST_SERVER_FAULT:
            fault = f"it answered HTTP {error.code}"
    except urllib.error.URLError as error:
        # There is a server; whether to trust it the client decides, by its own settings.
        if not isinstance(error.reason, ssl.SSLCertVerificationError):
            fault = str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        fault = str(error) or type(error).__name__
    return fault
