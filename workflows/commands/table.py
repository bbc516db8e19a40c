"""`sphere table`: the results of sweeps."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.errors import InputError
from workflows.commands.output_options import By, JsonOption, OutOption, TableFormatOption, WideOption
from workflows.results.formats.layout_view import layout_answer
from workflows.results.formats.output import Answer, write_answer
from workflows.results.formats.output_format import Format, chosen_format
from workflows.results.formats.published_view import published_answer
from workflows.results.formats.results_view import results_answer
from workflows.results.formats.timings_view import timings_answer
from workflows.results.layouts.asked import default_layout
from workflows.results.layouts.layout import read_layout
from workflows.results.layouts.make_table import layout_table
from workflows.results.sql.sweep_roots import open_roots
from workflows.results.tables.published import published_table
from workflows.results.tables.table import results_table
from workflows.results.tables.timings import stage_totals
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere table runs/quickstart               what fits the terminal
  sphere table runs/quickstart --wide        all columns
  sphere table runs/quickstart --format md   Markdown, as in a pipe
  sphere table runs/quickstart --by edits    at every checkpoint
  sphere table runs/quickstart --timings     where the hours went
  sphere table runs/llama3 --published       papers' numbers beside ours
  sphere table runs/quickstart --format csv --out results.csv
  sphere table runs/quickstart --layout tables/main.yaml --out main.tex
  sphere table runs/a runs/b --layout tables/main.yaml
                                             two sweeps as one

A layout file names rows, columns, groups and the spread of a paper's table; LaTeX
(booktabs, siunitx) is a fragment to \\input. docs/tables.md describes it.
"""


@app.command(epilog=_EPILOG)
def table(
    roots: Annotated[list[str], typer.Argument(metavar="ROOT", help="Folders or URLs of sweeps")],
    form: TableFormatOption = None,
    by: Annotated[By, typer.Option(help="One row per method at the end, or one per checkpoint")] = By.METHOD,
    out: OutOption = None,
    layout: Annotated[Path | None, typer.Option(help="YAML file that lays a paper's table out")] = None,
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

    On a terminal the columns that fit; all of them in a pipe, in a file and with --wide. With several sweeps, or as
    LaTeX or HTML: the table of --layout, or of a plain one.
    """
    chosen = chosen_format(form, out, as_json=as_json)
    laid_out = layout is not None or len(roots) > 1 or chosen in (Format.LATEX, Format.HTML)
    if published and timings:
        raise InputError("--published and --timings are two tables", where="sphere table", remedy="give one of them")
    if laid_out and (published or timings or by is By.EDITS):
        raise InputError(
            "a table with a layout has one row per method",
            where="--published, --timings, --by",
            remedy="leave them out: a layout has the keys 'published' and 'edits'; or name one root and another format",
        )
    answer = _laid_out(roots, layout) if laid_out else _plain(roots[0], by, published=published, timings=timings)
    write_answer(answer, output_console(), form=chosen, out=out, wide=wide)


def _laid_out(roots: list[str], layout: Path | None) -> Answer:
    with ExitStack() as reading:
        opened = [reading.enter_context(root.held()) for root in open_roots(roots)]
        asked = read_layout(layout) if layout is not None else default_layout(opened)
        return layout_answer(layout_table(opened, asked))


def _plain(root: str, by: By, *, published: bool, timings: bool) -> Answer:
    (opened,) = open_roots([root])
    if timings:
        return timings_answer(stage_totals(opened))
    if published:
        return published_answer(published_table(opened))
    return results_answer(results_table(opened, by_edits=by is By.EDITS))
