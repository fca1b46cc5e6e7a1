"""A look as JSON, for programs."""

from dataclasses import asdict

from producer.show_lanes import overview_fields
from producer.top.look import Snapshot
from storage.terminal.text import json_line


def as_json(snapshot: Snapshot) -> str:
    """One line; names are those of the client's `Worker`, shares of 1, and what is unknown null."""
    return json_line(
        {
            "at_ms": snapshot.fleet.at_ms,
            **overview_fields(snapshot.lanes),
            "together": asdict(snapshot.together),
            "workers": [asdict(worker) for worker in snapshot.fleet.workers],
            "workers_total": snapshot.fleet.total,
            "disagreements": list(snapshot.disagreements),
            "failures": [asdict(cause) for cause in snapshot.causes],
            "ends_looked_at": snapshot.ends,
        }
    )
