"""Scores of edit quality over edits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.line_panels import LinePanel, line_panels
from workflows.results.figures.panels import Row, seeds_caption

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_METRICS = ("efficacy", "generalization", "specificity")


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    metrics = list(ask.metrics or _METRICS)
    found = source.ask("scores", metrics=metrics, protocol=ask.protocol)
    remedy = "run the sweep with the evaluator edit_quality; 'sphere status' shows what is scored"
    return needs(found, f"{', '.join(metrics)} under the protocol '{ask.protocol}'", remedy, where=source.storage.uri)


def _shares(axis: "Axes", rows: Sequence[Row]) -> None:
    if all(row["value"] is None or 0 <= row["value"] <= 1 for row in rows):
        axis.set_ylim(-0.02, 1.02)


def _panel(place: tuple[str, ...]) -> LinePanel:
    metric, protocol = place
    return LinePanel(metric, protocol, metric)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    return line_panels(table.to_pylist(), look, by=("metric", "protocol"), panel=_panel, scale=_shares)


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
