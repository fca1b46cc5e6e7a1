"""Write the pages that are made from the code: `make docs`, or `python -m docs.generate`."""

from pathlib import Path

from bench.chart import chart
from bench.gpu.report import markdown as gpu_markdown
from bench.report import markdown
from bench.result import read_results
from producer.console.settings import ConsoleSettings
from producer.control.settings import ControlSettings
from producer.exporter.metrics import catalogue as of_the_queue
from producer.exporter.settings import ExporterSettings
from storage.serving.metrics_server import table as metrics_table
from storage.settings import table
from worker.settings import WorkerSettings
from worker.telemetry.metrics import catalogue

ROOT = Path(__file__).resolve().parents[1]

_NOTE = "<!-- Made by `make docs` from {source}; changes go there. -->"

_SETTINGS = """\
{note}

# Settings

Environment variables, or lines of a file `.env` in the working directory; the environment wins.
Times are in seconds. Sizes are in bytes, or carry a unit: `512MiB`. What is wrong is reported all
at once, before anything starts, with exit status 2. The worker, `control`, the exporter and the
console log `settings.unknown` for an `EMO_` name, in either place, that no setting has. One that
begins as those of `control`, of the exporter or of the console do is said by that program alone.

The producer reads those up to and including `EMO_RESULTS_MAXLEN`. How the model is downloaded has
variables of its own, which [model.md](model.md) explains.

{table}

## Control

`python -m producer control` reads those that the producer does, `EMO_LOG_LEVEL`, and these:

{control}

## Exporter

`python -m producer exporter` reads those that the producer does, `EMO_LOG_LEVEL`, and this:

{exporter}

## The console

`python -m producer console` reads those up to and including `EMO_RESULTS_MAXLEN` too, and
`EMO_OUTPUT_STORE` and `EMO_OUTPUT_PREFIX`; and these, which [console.md](console.md) explains.

{console}
"""

_METRICS = """\
{note}

# Metrics

Those of a worker are of itself alone, and gone with it; those of the [queue](#queue) are served by
`python -m producer exporter`, which is always on.

## Worker

Served at `/metrics` on `EMO_METRICS_ADDRESS`, in the Prometheus text format; a histogram has the
usual `_bucket`, `_sum` and `_count`. Which of them to watch, and why, says
[operations.md](operations.md#what-to-watch).

{table}

## Queue

Served at `/metrics` on `EMO_EXPORTER_ADDRESS`, read from Redis at each scrape. While Redis does not
answer, `emostream_redis_up` is 0 and nothing else is told: no figure is older than its scrape.

{queue}
"""


_MARK = "<!-- Made by `make docs` from {source}: {edge} -->"
_RESULTS, _GPU_RESULTS = "bench/results/", "bench/results/*/"


def pages() -> dict[Path, str]:
    """Each generated page and what it must hold, the same on every machine."""
    performance, results = ROOT / "docs" / "performance.md", read_results()
    return {
        performance: between(
            between(
                performance.read_text(encoding="utf-8"),
                markdown(results, performance.parent),
                source=_RESULTS,
            ),
            gpu_markdown(),
            source=_GPU_RESULTS,
        ),
        **{path.with_suffix(".svg"): chart(result) for path, result in results.items()},
        ROOT / "docs" / "settings.md": _SETTINGS.format(
            note=_NOTE.format(
                source="worker/settings.py, storage/settings.py and producer/control/settings.py"
            ),
            table=table(WorkerSettings),
            control=table(ControlSettings, beside=WorkerSettings),
            exporter=table(ExporterSettings, beside=WorkerSettings),
            console=table(ConsoleSettings, beside=WorkerSettings),
        ),
        ROOT / "docs" / "metrics.md": _METRICS.format(
            note=_NOTE.format(source="worker/telemetry/metrics.py, producer/exporter/metrics.py"),
            table=catalogue(),
            queue=metrics_table(of_the_queue()),
        ),
    }


def between(page: str, made: str, *, source: str) -> str:
    """The page with what was made between its markers. Raises ValueError where they are not."""
    marks = [_MARK.format(source=source, edge=edge) for edge in ("begin", "end")]
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"the page must hold these two lines, in order: {' '.join(marks)}")
    return f"{before}{begin}\n\n{made}\n\n{end}{after}"


def main() -> None:
    """Write all of them."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
