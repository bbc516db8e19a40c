"""Norms of each edited weight over edits."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import (
    edits_axis,
    grouped,
    legend,
    method_lines,
    panels,
    place_title,
    seeds_caption,
)
from workflows.results.figures.style import log_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_MOST_PANELS = 9


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    metric = ask.metrics[0] if ask.metrics else "weight_norm"
    found = source.ask("norms", metric=metric)
    remedy = "add 'geometry: {}' to the sweep's evaluators, and run it"
    return needs(found, f"{metric} of a site is scored", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = dict(list(grouped(rows, "model", "stream", "site").items())[:_MOST_PANELS])
    figure, axes = panels(len(groups), look)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        method_lines(axis, own, look, name=own[0]["metric"])
        axis.set_title(place_title(rows, place, place[2]))
        if all(row["value"] is None or row["value"] > 0 for row in own):
            axis.set_yscale("log")
            log_ticks(axis.yaxis)
        edits_axis([axis], ylabel=own[0]["metric"].replace("_", " "))
    legend(figure, rows, look)
    return figure


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
