"""`exporter`: the queue's metrics for Prometheus, until it is told to end."""

from producer.exporter.settings import ExporterSettings
from producer.program import EXIT_SETTINGS, configure_logs, fail
from storage.settings import InvalidSettings, load


def exporter() -> None:
    """Serve the metrics of lanes, batches, webhooks and workers, until SIGTERM."""
    try:
        settings = load(ExporterSettings, required=("redis_url",))
    except InvalidSettings as error:
        fail(*error.problems, status=EXIT_SETTINGS)
    configure_logs(ExporterSettings, settings.log_level)
    from producer.exporter import program  # noqa: PLC0415 (the other commands start without it)

    try:
        program.run(settings)
    except OSError as error:
        fail(f"cannot start: {error}")
