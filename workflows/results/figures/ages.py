"""Success by the age of an edit at the last checkpoint."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look
from workflows.results.figures.panels import grouped, legend, panels, place_title
from workflows.results.figures.retention import interval_lines, retention_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    table = retention_of(source, ask, "ages")
    found = table.to_pylist()
    last = {
        place: max(row["edits"] for row in own) for place, own in grouped(found, "model", "stream", "method").items()
    }
    kept = [row for row in found if row["edits"] == last[row["model"], row["stream"], row["method"]]]
    return table_of_records(kept, table.schema)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    from matplotlib.ticker import MaxNLocator

    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream")
    figure, axes = panels(len(groups), look, across=2, height=2.4)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        interval_lines(axis, own, look, x="age_from")
        axis.set_title(place_title(rows, place, f"after {max(row['edits'] for row in own)} edits"))
        axis.set_xlabel("age: edits written since")
        axis.set_ylabel("share right")
        axis.set_ylim(-0.02, 1.02)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 2.5, 5, 10]))
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    width = rows[0]["age_to"] - rows[0]["age_from"] + 1
    return (
        f"Success at the last checkpoint by age, in bins of {width} edits, pooled over {rows[0]['seeds']} seeds; "
        "bands: Wilson's 95 % interval."
    )


FIGURE = Figure(
    "ages",
    "Are old edits lost more often than recent ones?",
    "edit-age cohorts of long runs",
    "edit_quality",
    _table,
    _draw,
    _caption,
)
