"""Serves the queue's metrics until it is told to end."""

import signal

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector

from producer.exporter.metrics import QueueMetrics
from producer.exporter.settings import ExporterSettings
from storage.redis.connection import Client, RedisError, connect
from storage.serving.metrics_server import MetricsServer
from storage.wire.messages import Keys

# Prometheus waits for ten seconds; what Redis has not said by then is an outage.
_TIMEOUT_SECONDS = 4.0
_ENDING = {signal.SIGTERM, signal.SIGINT}

log = structlog.get_logger(__name__)


def new_server(settings: ExporterSettings, client: Client) -> MetricsServer:
    """It listens, and answers when started. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(QueueMetrics(client, Keys(settings.prefix)))
    ProcessCollector(registry=registry)
    probes = {"/livez": lambda: True, "/readyz": lambda: _answers(client)}
    return MetricsServer(
        settings.exporter_address, registry, probes, variable="EMO_EXPORTER_ADDRESS"
    )


def run(settings: ExporterSettings) -> None:
    """Serve until SIGTERM or SIGINT, whether or not Redis is there. Raises OSError."""
    # Before there are threads, which inherit it: they are for this one to wait for.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    with connect(
        settings.redis_url, name="emostream-exporter", timeout_seconds=_TIMEOUT_SECONDS
    ) as client:
        server = new_server(settings, client)
        server.start()
        log.info("exporter.ready", port=server.port)
        signal.sigwait(_ENDING)
        server.stop()


def _answers(client: Client) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False
