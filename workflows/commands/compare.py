"""`sphere compare`: two sweeps compared."""

from enum import Enum
from typing import Annotated

import typer

from sphere_core.foundation.storage import Storage
from workflows.commands.output_options import FormatOption, JsonOption, OutOption, WideOption
from workflows.results.formats.comparison_view import comparison_answer
from workflows.results.formats.output import write_answer
from workflows.results.formats.output_format import chosen_format
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.results.tables.comparison import compare_sweeps
from workflows.store.plan import read_plan
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere compare runs/quickstart runs/again
  sphere compare runs/a runs/b --table differences --format csv
  sphere compare runs/a s3://bucket/a --json

A cell is a score of one method and seed on one model and stream, after one number
of edits. Cells with equal numbers are counted, the others listed; below them what
differed: fields of the specifications, evaluations, code, devices.
"""


class Shown(Enum):
    """The table of csv and parquet."""

    CELLS = "cells"
    DIFFERENCES = "differences"


@app.command(epilog=_EPILOG)
def compare(
    first: Annotated[str, typer.Argument(help="A sweep's folder or URL")],
    second: Annotated[str, typer.Argument(help="Another one")],
    table: Annotated[Shown, typer.Option(help="Which table csv and parquet hold")] = Shown.CELLS,
    form: FormatOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
) -> None:
    """Pair the cells of two sweeps, and show what differed in specification, code and devices."""
    chosen = chosen_format(form, out, as_json=as_json)
    roots = []
    for uri in (first, second):
        storage = Storage(uri)
        storage.require_reachable()
        roots.append(SweepRoot.of(storage, read_plan(storage)))
    answer = comparison_answer(compare_sweeps(*roots), flat=table.value)
    write_answer(answer, output_console(), form=chosen, out=out, wide=wide)
