"""`sphere new`: the start of a plugin."""

from pathlib import Path
from typing import Annotated

import typer

from workflows.terminal.console import output_console, say

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere new regularizer cap          ./cap.py, a regularizer in one file
  sphere new editor ridge --dir mine  mine/ridge.py
  sphere new evaluator distance       ./distance.py
  sphere new dataset quiz             ./quiz.py, a reader of records
  sphere new family granite           ./granite.py, for this model_type

The file runs as it is. Name it under `plugins` in a sweep file, and its row where rows of the release are named; a
family is found by its model_type. A plugin is code that is run, with the rights of the run; the page 'Plugins' says
more.
"""


@app.command(epilog=_EPILOG)
def new(
    kind: Annotated[str, typer.Argument(help="regularizer, editor, evaluator, dataset or family")],
    name: Annotated[str, typer.Argument(help="Name of the row: lower case letters, digits, underscores")],
    folder: Annotated[Path, typer.Option("--dir", help="Folder of the file; created if needed")] = Path(),
) -> None:
    """Write the start of a plugin: one Python file with a row of your own."""
    from workflows.runs.new_plugin import next_steps, start_plugin

    path = start_plugin(kind=kind, name=name, folder=folder)
    console = output_console()
    say(console, f"wrote {path}")
    for line in next_steps(kind, name):
        say(console, line)
