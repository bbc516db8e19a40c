"""`sphere table`: the results of a sweep."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.console import output_console
from workflows.results.formats.table_formats import table_csv, table_markdown, table_parquet
from workflows.results.tables.published import published_markdown, published_table
from workflows.results.tables.table import results_table
from workflows.store.plan import read_plan

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere table runs/quickstart                                     Markdown
  sphere table runs/quickstart --by edits                          at every checkpoint
  sphere table runs/quickstart --format csv --out results.csv
  sphere table runs/quickstart --format parquet --out results.parquet
  sphere table runs/sphere_llama3 --published                      papers' numbers beside ours
"""


class Format(Enum):
    """How a table is written."""

    MARKDOWN = "md"
    CSV = "csv"
    PARQUET = "parquet"


class By(Enum):
    """What the rows of a table are."""

    METHOD = "method"
    EDITS = "edits"


@app.command(epilog=_EPILOG)
def table(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    form: Annotated[Format, typer.Option("--format", help="md, csv or parquet")] = Format.MARKDOWN,
    by: Annotated[By, typer.Option(help="One row a method at the end, or one for every checkpoint")] = By.METHOD,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the terminal")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Instead: the papers' numbers that the sweep file names, beside ours")
    ] = False,
) -> None:
    """Print the results table: mean ± sd over seeds of each metric under each protocol, the unedited model first."""
    if form is Format.PARQUET and out is None:
        raise InputError("a Parquet table needs a file", where="--format parquet", remedy="add --out FILE.parquet")
    console = output_console()
    storage = Storage(root)
    storage.require_reachable()
    if published:
        _show(console, published_markdown(published_table(storage)).encode(), out)
        return
    found = results_table(storage, read_plan(storage), by_edits=by is By.EDITS)
    if form is Format.PARQUET:
        data = table_parquet(found)
    else:
        width = console.width if console.is_terminal and out is None else None
        data = (table_csv(found) if form is Format.CSV else table_markdown(found, width=width)).encode()
    _show(console, data, out)


def _show(console: Console, data: bytes, out: Path | None) -> None:
    if out is None:
        console.out(data.decode(), end="", highlight=False)
    else:
        out.write_bytes(data)
