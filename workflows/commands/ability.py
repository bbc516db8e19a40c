"""`sphere ability`: general ability task by task."""

from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.console import output_console
from workflows.commands.table import By, Format
from workflows.results.formats.table_formats import arrow_csv, arrow_markdown, arrow_parquet
from workflows.results.tables.ability import ability_table
from workflows.store.plan import read_plan

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere ability runs/quickstart                          at the last checkpoint of each trajectory
  sphere ability runs/quickstart --by edits --task gsm8k  one task along the way
  sphere ability runs/quickstart --format csv --out ability.csv

low and high: the 95 % interval of the score (Wilson's for shares, Student's for
means). change: the mean difference to the unedited model on the same documents,
with its interval and the p of no change: McNemar's exact test for shares, a
paired t-test otherwise. Of a perplexity, the change of its logarithm. A score
that says nothing is collapsed, one whose scorer raised failed; neither has a
number.
"""
_ROWS_SHOWN = 80


@app.command(epilog=_EPILOG)
def ability(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    by: Annotated[By, typer.Option(help="The last checkpoint of each trajectory, or every one")] = By.METHOD,
    task: Annotated[str | None, typer.Option(help="Only this task or group")] = None,
    form: Annotated[Format, typer.Option("--format", help="md, csv or parquet")] = Format.MARKDOWN,
    out: Annotated[Path | None, typer.Option(help="File to write; default: the terminal")] = None,
) -> None:
    """Show each task's score with its interval, and its change from the unedited model."""
    if form is Format.PARQUET and out is None:
        raise InputError("a Parquet table needs a file", where="--format parquet", remedy="add --out FILE.parquet")
    console = output_console()
    storage = Storage(root)
    storage.require_reachable()
    found = ability_table(storage, read_plan(storage), by_edits=by is By.EDITS, task=task)
    if form is Format.PARQUET:
        data = arrow_parquet(found)
    elif form is Format.CSV:
        data = arrow_csv(found).encode()
    else:
        data = arrow_markdown(found, shown=None if out is not None else _ROWS_SHOWN).encode()
    if out is None:
        console.out(data.decode(), end="", highlight=False)
    else:
        out.write_bytes(data)
