"""`sphere table`: the results of a sweep."""

from enum import Enum
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import FormatOption, JsonOption, OutOption, WideOption
from workflows.results.formats.output import write_answer
from workflows.results.formats.output_format import chosen_format
from workflows.results.formats.published_view import published_answer
from workflows.results.formats.results_view import results_answer
from workflows.results.formats.timings_view import timings_answer
from workflows.results.tables.published import published_table
from workflows.results.tables.table import results_table
from workflows.results.tables.timings import stage_totals
from workflows.store.plan import read_plan
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere table runs/quickstart                                     what fits the terminal
  sphere table runs/quickstart --wide                              all columns
  sphere table runs/quickstart --format md                         Markdown, as in a pipe
  sphere table runs/quickstart --by edits                          at every checkpoint
  sphere table runs/quickstart --format csv --out results.csv
  sphere table runs/quickstart --format parquet --out results.parquet
  sphere table runs/sphere_llama3 --published                      papers' numbers beside ours
  sphere table runs/quickstart --timings                           where the hours went
"""


class By(Enum):
    """What the rows of a table are."""

    METHOD = "method"
    EDITS = "edits"


@app.command(epilog=_EPILOG)
def table(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    form: FormatOption = None,
    by: Annotated[By, typer.Option(help="One row per method at the end, or one per checkpoint")] = By.METHOD,
    out: OutOption = None,
    published: Annotated[
        bool, typer.Option("--published", help="Instead: the papers' numbers that the sweep file names, beside ours")
    ] = False,
    timings: Annotated[
        bool, typer.Option("--timings", help="Instead: seconds by method, work and stage, and their share")
    ] = False,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Print the results table: mean ± sd over seeds of each metric under each protocol, the unedited model first.

    On a terminal the columns that fit; all of them in a pipe, in a file and with --wide.
    """
    chosen = chosen_format(form, out, as_json=as_json)
    storage = Storage(root)
    storage.require_reachable()
    if published and timings:
        raise InputError("--published and --timings are two tables", where="sphere table", remedy="give one of them")
    if timings:
        answer = timings_answer(stage_totals(storage, read_plan(storage)))
    elif published:
        answer = published_answer(published_table(storage))
    else:
        answer = results_answer(results_table(storage, read_plan(storage), by_edits=by is By.EDITS))
    write_answer(answer, output_console(), form=chosen, out=out, wide=wide)
