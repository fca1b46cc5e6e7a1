"""A WSGI server that slow clients cannot take: waitress, bounded in connections and in time."""

import logging
import socket
import threading
import time
from wsgiref.types import WSGIApplication

import structlog
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import WSGITask

MOST_CONNECTIONS = 40
MOST_SILENT = 32  # connections that have not asked yet, or do not read their answer
_LEAST_SILENT = 8  # places for such, however many are being answered
_THREADS = 2  # a probe does not wait for a scrape
_MOST_HEADER_BYTES = 16 * 1024
_LOOK_SECONDS = 1  # the longest time between two looks at what is silent
_STOP_SECONDS = 2.0
_WAIT_SECONDS = 0.1  # for descriptors
_SAY_AGAIN_SECONDS = 60.0

log = structlog.get_logger(__name__)


class BoundedServer:
    """Answers on threads of its own, over at most `MOST_CONNECTIONS`, one request on each.

    A connection on which nothing happens for `idle_seconds` is closed. Of more than `MOST_SILENT`
    that ask nothing the oldest gives way, so that a client that asks at once is always answered.
    """

    def __init__(
        self, listener: socket.socket, answer: WSGIApplication, *, idle_seconds: int
    ) -> None:
        self._connections: dict[int, object] = {}
        self._server = _Server(
            answer,
            self._connections,
            _sock=listener,
            bind_socket=False,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            adj=Adjustments(
                sockets=[listener],
                threads=_THREADS,
                connection_limit=MOST_CONNECTIONS,
                channel_timeout=idle_seconds,
                cleanup_interval=0,
                max_request_header_size=_MOST_HEADER_BYTES,
                max_request_body_size=0,
                log_socket_errors=False,  # clients that hang up are no events
                ident=None,
            ),
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.effective_port)

    def start(self) -> None:
        """Start answering."""
        faults = logging.getLogger("waitress")
        faults.setLevel(logging.ERROR)  # its warnings are of crowds, one for each connection
        faults.propagate = False
        faults.handlers = [_Faults()]
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, and let go of the port."""
        # Before anything is closed: an answer writes to the pipe that wakes the server.
        self._server.task_dispatcher.shutdown(timeout=_STOP_SECONDS)
        self._stop.set()
        self._server.pull_trigger()
        self._thread.join(_STOP_SECONDS)
        wasyncore.close_all(self._connections)

    def _serve(self) -> None:
        while not self._stop.is_set():
            # Not by select, which knows no descriptor above 1023.
            wasyncore.loop(_LOOK_SECONDS, use_poll=True, map=self._connections, count=1)


class _OneAnswer(WSGITask):
    """The last of its connection: many that nobody reads would hold memory and a thread."""

    def start(self) -> None:
        super().start()
        self.request.headers["CONNECTION"] = "close"


class _Channel(HTTPChannel):
    """One that is not waited for once it is closed: its descriptor may be another's by then."""

    task_class = _OneAnswer

    def readable(self) -> bool:
        return bool(self.connected and super().readable())

    def writable(self) -> bool:
        return bool(self.connected and super().writable())


class _Server(TcpWSGIServer):
    """Waitress, which by itself accepts nothing at its limit: probes would wait for time-outs."""

    channel_class = _Channel
    _crowd_said_at = float("-inf")

    def accept(self) -> object:
        """Accept a connection. Raises OSError where there are no descriptors, after a while."""
        try:
            return super().accept()
        except OSError:
            time.sleep(_WAIT_SECONDS)  # or the loop would turn at full speed, since one waits
            raise

    def maintenance(self, now: float) -> None:
        """Close what is silent for too long, and what is too much; called before each wait."""
        silent = [channel for channel in self.active_channels.values() if not channel.requests]
        asking = len(self.active_channels) - len(silent)
        surplus = len(silent) - max(_LEAST_SILENT, MOST_SILENT - asking)
        if surplus > 0:
            self._say_crowded()
        too_old = now - self.adj.channel_timeout
        for position, channel in enumerate(silent):  # in the order they came
            if position < surplus or channel.last_activity < too_old:
                # Not `will_close`, which waits until a client that reads nothing has read.
                channel.handle_close()

    def _say_crowded(self) -> None:
        now = time.monotonic()
        if now >= self._crowd_said_at + _SAY_AGAIN_SECONDS:
            self._crowd_said_at = now
            log.warning("health.crowded", silent=MOST_SILENT)


class _Faults(logging.Handler):
    """What waitress says of faults, as events."""

    def emit(self, record: logging.LogRecord) -> None:
        log.error("health.failed", error=record.getMessage(), exc_info=record.exc_info)
