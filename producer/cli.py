"""The producers' command line: send audio, see what came of it, and look after the queue."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from producer.commands.batch import batch
from producer.commands.bulk import bulk
from producer.commands.cancel import cancel
from producer.commands.console import console
from producer.commands.control import control
from producer.commands.dead import dead
from producer.commands.export import export, purge_uploads
from producer.commands.exporter import exporter
from producer.commands.follow import status, wait
from producer.commands.lanes import lanes
from producer.commands.stress import stress
from producer.commands.submit import submit
from producer.commands.top import top
from producer.commands.webhooks import webhooks
from producer.program import fail

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)


def demo(
    model: Annotated[str, typer.Option(help="`tiny`: do not ask the model hub at all.")] = "",
    keep: Annotated[bool, typer.Option(help="Leave Redis and the worker running.")] = False,
    stop: Annotated[bool, typer.Option(help="Stop what --keep left running.")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where it keeps what it makes, one demo in each: .demo")
    ] = None,
) -> None:
    """Send the sample clips through an embedded Redis and a worker, and show the results."""
    from producer import demo as demonstration  # noqa: PLC0415 (only here)

    shown = demonstration.Demo(directory.resolve() if directory else demonstration.USUAL)
    try:
        raise typer.Exit(shown.stop() if stop else shown.run(model, keep=keep))
    except demonstration.DemoFailed as error:
        fail(*str(error).splitlines())


# As `--help` shows them.
_COMMANDS: dict[str, dict[str, Callable[..., Any] | typer.Typer]] = {
    "Jobs": {"submit": submit, "status": status, "wait": wait, "cancel": cancel, "batch": batch},
    "Very many jobs": {"bulk": bulk, "export": export, "purge-uploads": purge_uploads},
    "The queue": {"lanes": lanes, "dead": dead, "webhooks": webhooks, "top": top},
    "Programs that run beside the workers": {
        "console": console,
        "control": control,
        "exporter": exporter,
    },
    "To try it": {"demo": demo, "stress": stress},
}
for panel, commands in _COMMANDS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)
