"""`sphere sql`: a query on the views of a sweep."""

from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from sphere_core.foundation.errors import InputError
from workflows.commands.output_options import FormatOption, JsonOption, OutOption, WideOption
from workflows.results.arrow_tables import table_of_records
from workflows.results.formats.arrow_answer import arrow_answer
from workflows.results.formats.output import write_answer
from workflows.results.formats.output_format import chosen_format
from workflows.results.sql.connect import connect_roots
from workflows.results.sql.sweep_roots import open_roots
from workflows.results.sql.user_query import run_query, views_in
from workflows.results.sql.view_columns import VIEW_COLUMNS
from workflows.terminal.console import output_console
from workflows.terminal.table import Column

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere sql runs/quickstart          the views and their columns
  sphere sql runs/quickstart "SELECT method, avg(value), avg(unedited)
    FROM scores WHERE is_last AND metric = 'efficacy' GROUP BY ALL"
  sphere sql runs/a runs/b "FROM trajectories" --format csv
  sphere sql runs/quickstart --file lost.sql --out lost.parquet

Views: trajectories, scores, unedited, geometry, geometry_means, timings, stages,
edits, texts, probes, documents. The language is DuckDB's SQL. Nothing is written below
ROOT, and a running sweep can be queried.
"""
_VIEWS_SCHEMA = pa.schema([(name, pa.string()) for name in ("view", "column", "type", "meaning")])


@app.command(epilog=_EPILOG)
def sql(
    words: Annotated[list[str], typer.Argument(metavar="ROOT", help="Folders or URLs of sweeps, then the query")],
    file: Annotated[Path | None, typer.Option(help="File that holds the query")] = None,
    form: FormatOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Query the rows of one or several sweeps with SQL, or list the views."""
    chosen = chosen_format(form, out, as_json=as_json)
    console = output_console()
    if file is None and len(words) == 1:
        open_roots(words)
        write_answer(arrow_answer(_columns(), _LISTED, title="views"), console, form=chosen, out=out, wide=wide)
        return
    text, roots = (_query_in(file), words) if file is not None else (words[-1], words[:-1])
    with connect_roots(open_roots(roots), views=views_in(text), locked=True) as connection:
        found = run_query(connection, text)
    write_answer(arrow_answer(found, {}, title=""), console, form=chosen, out=out, wide=wide)


_LISTED = {"view": Column("view"), "column": Column("column"), "meaning": Column("meaning", 1, prose=True)}


def _columns() -> pa.Table:
    """Return every view's columns, one row for each."""
    return table_of_records(
        [
            {"view": name, "column": column, "type": kind, "meaning": meaning.replace("`", "")}
            for name, view in VIEW_COLUMNS.items()
            for column, (kind, meaning) in view.columns.items()
        ],
        _VIEWS_SCHEMA,
    )


def _query_in(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the file of the query cannot be read", where=str(file), remedy=str(error)) from error
