"""Heat map of forgetting: each cohort of edits at every later checkpoint."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look
from workflows.results.figures.heat import colour_bar, heat_cells
from workflows.results.figures.panels import Row, grouped, panels, place_title
from workflows.results.figures.retention import retention_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

# More cells than this in a row cannot be distinguished.
_MOST_CELLS = 24


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    return retention_of(source, ask, "origins")


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "method")
    figure, axes = panels(len(groups), look, height=1.95)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        steps = sorted({row["edits"] for row in own})
        kept = set(steps[:: -(-len(steps) // _MOST_CELLS)])
        cells = {
            (row["edits"], row["cohort"]): (row["rate"], f"{place[2]}\n{_text(row)}")
            for row in own
            if row["edits"] in kept and row["cohort"] in kept
        }
        heat_cells(axis, cells, look, place[2], upward=False)
        axis.set_title(place_title(rows, place, place[2]))
        axis.set_xlabel("scored after edits")
        axis.set_ylabel("written by edit")
    colour_bar(figure, axes, "share still right", look)
    return figure


def _text(row: Row) -> str:
    rate = "collapsed" if row["rate"] is None else f"{row['rate']:.3f} of {row['n']} answers"
    return f"written up to edit {row['cohort']}, scored at {row['edits']}: {rate}"


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return (
        "Each row is a cohort, the edits written between two checkpoints; each column a checkpoint; the diagonal is "
        f"success right after writing. Pooled over {seeds} seed{'s' * (seeds > 1)}; x: collapsed."
    )


FIGURE = Figure(
    "cohorts",
    "Which edits were lost, and when?",
    "cohort heat map of long sequential runs",
    "edit_quality",
    _table,
    _draw,
    _caption,
)
