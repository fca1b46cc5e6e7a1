"""`/metrics`, `/livez` and `/readyz` of a worker; `/healthz` is another name of `/livez`."""

from collections.abc import Callable
from typing import Any

from storage.serving.metrics_server import MetricsServer
from worker.telemetry.metrics import Metrics


class HealthServer(MetricsServer):
    """See there. `alive` says whether the process gets on, `ready` whether it takes jobs."""

    def __init__(
        self,
        address: str,
        metrics: Metrics,
        *,
        alive: Callable[[], bool],
        ready: Callable[[], bool],
        **options: Any,
    ) -> None:
        probes = {"/livez": alive, "/healthz": alive, "/readyz": ready}
        super().__init__(
            address, metrics.registry, probes, variable="EMO_METRICS_ADDRESS", **options
        )
