"""The worker's command line."""

import typer

from storage.terminal.lazy import lazy
from worker.commands.run import run

# As `--help` shows them.
_COMMANDS: dict[str | None, dict[str, str]] = {
    None: {
        "classify": "worker.commands.classify:classify",
        "doctor": "worker.commands.doctor:doctor",
        "gpu": "worker.commands.gpu:gpu",
        "run": "worker.commands.run:run",
        "model": "worker.commands.model:model",
        "bench": "worker.commands.bench:bench",
        "settings": "worker.commands.catalogues:settings",
        "metrics": "worker.commands.catalogues:metrics",
    }
}

app = typer.Typer(cls=lazy(_COMMANDS), add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """The worker of emostream; without a command, `run`."""
    if context.invoked_subcommand is None:
        run()
