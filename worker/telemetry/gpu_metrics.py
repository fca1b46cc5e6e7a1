"""The worker's GPU as metrics, read from its driver whenever somebody scrapes."""

from collections.abc import Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker.telemetry.gpu import GpuReading, NoGpu, opened

log = structlog.get_logger(__name__)

_WHAT = {
    "emostream_gpu_utilization_ratio": "Share of time in which any kernel ran on this GPU.",
    "emostream_gpu_memory_used_bytes": "Memory of this GPU that is taken, by whomever.",
    "emostream_gpu_memory_total_bytes": "Memory of this GPU.",
    "emostream_gpu_power_watts": "Power that this GPU draws.",
    "emostream_gpu_clock_hertz": "Clock of its multiprocessors.",
    "emostream_gpu_temperature_celsius": "Its temperature.",
    "emostream_gpu_held_down": "1 for each thing that lowers its clock now.",
}


class GpuMetrics(Collector):
    """Gauges with the label `gpu`, its UUID; without samples until a GPU is named."""

    def __init__(self) -> None:
        self._uuid: str | None = None

    def watch(self, uuid: str) -> None:
        """Read this GPU from now on. Says in the log where it cannot be read."""
        try:
            with opened() as gpus:
                gpus.read(uuid)
        except NoGpu as error:
            log.warning("gpu.not_read", gpu=uuid, error=str(error))
        self._uuid = uuid

    def reading(self) -> GpuReading | None:
        """What it says now; None where there is none, or it does not answer."""
        if self._uuid is None:
            return None
        try:
            with opened() as gpus:
                return gpus.read(self._uuid)
        except NoGpu:
            return None  # said when it was named

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What it says now; nothing where it does not answer."""
        families = {
            name: GaugeMetricFamily(
                name, what, labels=["gpu", "by"] if name.endswith("held_down") else ["gpu"]
            )
            for name, what in _WHAT.items()
        }
        if gpu := self.reading():
            _fill(families, gpu)
        yield from families.values()


def _fill(families: dict[str, GaugeMetricFamily], gpu: GpuReading) -> None:
    values = {
        "emostream_gpu_utilization_ratio": gpu.utilization,
        "emostream_gpu_memory_used_bytes": gpu.memory_used_bytes,
        "emostream_gpu_memory_total_bytes": gpu.memory_total_bytes,
        "emostream_gpu_power_watts": gpu.watts,
        "emostream_gpu_clock_hertz": None if gpu.sm_mhz is None else 1e6 * gpu.sm_mhz,
        "emostream_gpu_temperature_celsius": gpu.celsius,
    }
    for name, value in values.items():
        if value is not None:
            families[name].add_metric([gpu.uuid], value)
    for reason in gpu.held_down_by:
        families["emostream_gpu_held_down"].add_metric([gpu.uuid, reason], 1)
