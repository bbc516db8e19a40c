"""`sphere methods`: the table of methods, and one method's hyperparameters with their sources."""

from typing import Annotated

import typer
from rich.table import Table

from sphere_core.hyperparameters import preset_names, preset_sources
from sphere_core.methods import EDITORS, REGULARIZERS, Method, resolve_method
from workflows.commands.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere methods                                     every editor and every regularizer
  sphere methods memit+rect+sphere                   what it composes, needs and keeps
  sphere methods alphaedit+sphere --preset llama3-8b its hyperparameters with the source of each

A method is an editor, with regularizers after plus signs, applied in that order.
"""


@app.command(epilog=_EPILOG)
def methods(
    name: Annotated[str | None, typer.Argument(help="A method, such as alphaedit+sphere")] = None,
    preset: Annotated[str, typer.Option(help="Preset whose hyperparameters are shown")] = "factworld",
) -> None:
    """List the table of methods, or show one method with its hyperparameters."""
    console = output_console()
    if name is None:
        console.print(_editors())
        console.print(_regularizers())
        console.print(f"presets: {', '.join(preset_names())}", highlight=False)
        return
    method = resolve_method(name)
    sources = preset_sources(preset, method.editor_name, method.regularizer_names)
    console.print(_description(method))
    table = Table(title=f"{name} on {preset}", title_justify="left")
    for column in ("hyperparameter", "value", "source"):
        table.add_column(column, overflow="fold")
    for key, (value, source) in sources.items():
        table.add_row(key, str(value), source)
    console.print(table)


def _editors() -> Table:
    table = Table(title="Editors", title_justify="left")
    for column in ("name", "what it is", "regularizers act", "checkpoint keeps", "paper"):
        table.add_column(column, overflow="fold")
    for name, row in EDITORS.items():
        table.add_row(name, row.title, row.scope.value, row.state, row.paper)
    return table


def _regularizers() -> Table:
    table = Table(title="Regularizers", title_justify="left")
    for column in ("name", "what it is", "acts", "needs", "checkpoint keeps", "paper"):
        table.add_column(column, overflow="fold")
    for name, row in REGULARIZERS.items():
        acts = "as the editor says" if row.scope is None else row.scope.value
        table.add_row(name, row.title, acts, row.needs or "", row.state, row.paper)
    return table


def _description(method: Method) -> Table:
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("editor", method.editor_row.title)
    for name, row in zip(method.regularizer_names, method.regularizer_rows, strict=True):
        table.add_row("regularizer", f"{name}: {row.title}")
    table.add_row("papers", method.paper)
    table.add_row("checkpoint keeps", method.state)
    return table
