"""`settings` and `metrics`: all that there are, as the documentation has them."""

from storage.settings import table
from storage.terminal.text import say
from worker.settings import WorkerSettings


def settings() -> None:
    """Print every setting as a Markdown table: docs/settings.md."""
    say(*table(WorkerSettings).splitlines())


def metrics() -> None:
    """Print every metric as a Markdown table: docs/metrics.md."""
    from worker.telemetry.metrics import catalogue  # noqa: PLC0415 (only here)

    say(*catalogue().splitlines())
