"""Scores of edit quality over edits."""

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_METRICS = ("efficacy", "generalization", "specificity")


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    metrics = list(ask.metrics or _METRICS)
    found = source.ask("scores", metrics=metrics, protocol=ask.protocol)
    remedy = "run the sweep with the evaluator edit_quality; 'sphere status' shows what is scored"
    return needs(found, f"{', '.join(metrics)} under the protocol '{ask.protocol}'", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "metric", "protocol")
    figure, axes = panels(len(groups), look)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        metric, protocol = place[2:]
        method_lines(axis, own, look, name=metric)
        axis.set_title(place_title(rows, place, metric))
        edits_axis([axis], ylabel=protocol)
        if all(row["value"] is None or 0 <= row["value"] <= 1 for row in own):
            axis.set_ylim(-0.02, 1.02)
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    protocol = "; ".join(dict.fromkeys(row["protocol"] for row in rows))
    return f"Scores of all edits so far (protocol {protocol}); {seeds_caption(rows)}; dotted: the unedited model."


FIGURE = Figure(
    "scores",
    "How do the scores change with the number of edits?",
    "SPHERE, Figs. 2 and 3 (scores); failure curves of long runs",
    "edit_quality",
    _table,
    _draw,
    _caption,
)
