"""The producers' command line: submit, look up, wait, cancel; batches, lanes and dead letters."""

from typing import Annotated

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
for command in (submit, status, wait, cancel, top, stress, export, console, control, exporter):
    app.command()(command)
app.command("purge-uploads")(purge_uploads)
app.add_typer(lanes, name="lanes")
app.add_typer(dead, name="dead")
app.add_typer(batch, name="batch")
app.add_typer(bulk, name="bulk")
app.add_typer(webhooks, name="webhooks")


@app.command()
def demo(
    model: Annotated[str, typer.Option(help="`tiny`: do not ask the model hub at all.")] = "",
    keep: Annotated[bool, typer.Option(help="Leave Redis and the worker running.")] = False,
    stop: Annotated[bool, typer.Option(help="Stop what --keep left running.")] = False,
) -> None:
    """Send the sample clips through an embedded Redis and a worker, and show the results."""
    from producer import demo as demonstration  # noqa: PLC0415 (only here)

    try:
        raise typer.Exit(demonstration.stop() if stop else demonstration.run(model, keep=keep))
    except demonstration.DemoFailed as error:
        fail(*str(error).splitlines())
