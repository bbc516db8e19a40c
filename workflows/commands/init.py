"""`sphere init`: a commented sweep file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.terminal.console import output_console, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere init                  ./sweep.yaml
  sphere init my-study         my-study/sweep.yaml

The file runs as it is, on the embedded model, in a minute or two. Every field that people change is in it with its
description; the full reference is the page 'Sweep file' of the documentation.
"""


@app.command(epilog=_EPILOG)
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder of the sweep file; created if needed")
    ] = Path(),
) -> None:
    """Write a commented sweep file that runs on the embedded model, and show the next commands."""
    from workflows.runs.init import next_commands, start_sweep

    path = start_sweep(folder=folder)
    console = output_console()
    say(console, f"wrote {path}")
    for line in next_commands(path):
        say(console, line)
