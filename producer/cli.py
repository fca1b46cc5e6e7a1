"""The producers' command line: send audio, see what came of it, and look after the queue."""

import typer

from storage.terminal.lazy import lazy

# As `--help` shows them.
_COMMANDS: dict[str | None, dict[str, str]] = {
    "Jobs": {
        "submit": "producer.commands.submit:submit",
        "status": "producer.commands.follow:status",
        "wait": "producer.commands.follow:wait",
        "cancel": "producer.commands.cancel:cancel",
        "batch": "producer.commands.batch:batch",
    },
    "Very many jobs": {
        "bulk": "producer.commands.bulk:bulk",
        "export": "producer.commands.export:export",
        "purge-uploads": "producer.commands.export:purge_uploads",
    },
    "The queue": {
        "lanes": "producer.commands.lanes:lanes",
        "dead": "producer.commands.dead:dead",
        "webhooks": "producer.commands.webhooks:webhooks",
        "top": "producer.commands.top:top",
    },
    "Programs that run beside the workers": {
        "console": "producer.commands.console:console",
        "control": "producer.commands.control:control",
        "exporter": "producer.commands.exporter:exporter",
    },
    "To try it": {
        "demo": "producer.commands.demo:demo",
        "stress": "producer.commands.stress:stress",
    },
}

app = typer.Typer(
    cls=lazy(_COMMANDS), no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.callback(help=__doc__)
def main() -> None:
    """Nothing that all commands have in common."""
