"""`demo`: all of it on this machine, with the sample clips."""

from pathlib import Path
from typing import Annotated

import typer

from producer import demo as demonstration
from producer.program import fail


def demo(
    model: Annotated[str, typer.Option(help="`tiny`: do not ask the model hub at all.")] = "",
    keep: Annotated[bool, typer.Option(help="Leave Redis and the worker running.")] = False,
    stop: Annotated[bool, typer.Option(help="Stop what --keep left running.")] = False,
    directory: Annotated[
        Path | None, typer.Option(help="Where it keeps what it makes, one demo in each: .demo")
    ] = None,
) -> None:
    """Send the sample clips through an embedded Redis and a worker, and show the results."""
    shown = demonstration.Demo(directory.resolve() if directory else demonstration.USUAL)
    try:
        raise typer.Exit(shown.stop() if stop else shown.run(model, keep=keep))
    except demonstration.DemoFailed as error:
        fail(*str(error).splitlines())
