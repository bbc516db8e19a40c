"""Norms of each edited weight over edits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.line_panels import LinePanel, line_panels
from workflows.results.figures.panels import Row, seeds_caption
from workflows.results.figures.style import log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_MOST_PANELS = 9


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    metric = ask.metrics[0] if ask.metrics else "weight_norm"
    found = source.ask("norms", metric=metric)
    remedy = "add 'geometry: {}' to the sweep's evaluators, and run it"
    return needs(found, f"{metric} of a site is scored", remedy, where=source.storage.uri)


def _log(axis: "Axes", rows: Sequence[Row]) -> None:
    if all(row["value"] is None or row["value"] > 0 for row in rows):
        axis.set_yscale("log")
        log_ticks(axis.yaxis)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    metric = rows[0]["metric"]

    def panel(place: tuple[str, ...]) -> LinePanel:
        return LinePanel(place[0], metric.replace("_", " "), metric)

    return line_panels(rows, look, by=("site",), panel=panel, scale=_log, most=_MOST_PANELS)


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    return f"{rows[0]['metric']} of each edited weight; {seeds_caption(rows)}; dotted: the unedited model."


FIGURE = Figure(
    "norms",
    "How far do the weights grow?",
    "REVIVE, norms of the edited weights",
    "geometry",
    _table,
    _draw,
    _caption,
)
