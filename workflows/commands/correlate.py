"""`sphere correlate`: does geometry correlate with the scores."""

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.user_files import output_errors
from workflows.commands.output_options import FormatOption, JsonOption, OutOption, WideOption
from workflows.results.figures.correlation import correlation_figure
from workflows.results.figures.style import check_figure_path
from workflows.results.formats.correlation_view import correlations_answer
from workflows.results.formats.output import write_answer
from workflows.results.formats.output_format import chosen_format
from workflows.results.sql.connect import connect
from workflows.results.tables.correlation import (
    bound_rows,
    correlations,
    later_scores,
    observations,
    scores_in,
    with_published,
)
from workflows.store.plan import read_plan
from workflows.terminal.console import output_console

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_EPILOG = """\b
Examples:
  sphere correlate runs/quickstart           HE drift with each score
  sphere correlate runs/quickstart --figure drift.svg
                                             and a figure
  sphere correlate runs/quickstart --against delta_spectral_norm \\
      --against principal_share
  sphere correlate runs/quickstart --score 'efficacy (probability)'
  sphere correlate runs/quickstart --lag 100 --against he_drift \\
      --against delta_norm --against solve_condition
  sphere correlate runs/quickstart --format csv --table bound --out bound.csv
"""


class Table(Enum):
    """Which table CSV and Parquet hold."""

    CORRELATIONS = "correlations"
    BOUND = "bound"


@app.command(epilog=_EPILOG)
def correlate(
    root: Annotated[str, typer.Argument(help="The sweep's folder or URL")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="A figure of geometry, its absolute value averaged over sites; repeatable [he_drift]"),
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(help="A score, by metric or by the table's column; repeatable [edit quality, general means]"),
    ] = None,
    form: FormatOption = None,
    table: Annotated[Table, typer.Option(help="Which table csv and parquet hold")] = Table.CORRELATIONS,
    figure: Annotated[Path | None, typer.Option(help="Also draw it: FILE.svg, .png or .pdf")] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
    wide: WideOption = False,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap samples behind an interval")] = 2000,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the bootstrap")] = 0,
    lag: Annotated[int, typer.Option(min=0, help="Scores of checkpoints this number of edits later [0]")] = 0,
) -> None:
    """Correlate energy drift, or another figure of geometry, with each score, and tabulate the energy's bound.

    Spearman in each method across checkpoints, and partial: given edit count and |dW|. Pooled over methods twice:
    ranked among all checkpoints, where methods also differ, and ranked within each method.
    Correlations that the sweep file has under `published` (with `against`) are beside ours.
    Checkpoints of one trajectory are not independent, so intervals resample whole trajectories (5 at least).
    """
    chosen = chosen_format(form, out, as_json=as_json)
    if figure is not None:
        check_figure_path(figure)
    storage = Storage(root)
    plan = read_plan(storage)
    with connect(storage, plan, views=("rows",)) as connection:
        found = observations(connection, plan)
        bounds = bound_rows(connection)
    found = later_scores(found, lag) if lag else found
    scores = scores_in(found, score or [])
    correlated = correlations(found, against or ["he_drift"], scores, resamples=resamples, seed=seed)
    correlated = [replace(row, lag=lag) for row in correlated] if lag else with_published(correlated, plan)
    if figure is not None:
        drawn = correlation_figure(found, correlated, bounds, form=figure.suffix.removeprefix("."))
        with output_errors(figure):
            figure.write_bytes(drawn)
    answer = correlations_answer(correlated, bounds, flat=table.value)
    write_answer(answer, output_console(), form=chosen, out=out, wide=wide)
