"""Immediate and final success, what was forgotten, and the area under the retention curve, by method."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look
from workflows.results.figures.panels import dots, first_column, grouped, panels, place_title
from workflows.results.figures.retention import retention_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_SHOWN = {
    "immediate": "right after writing",
    "final": "right at the end",
    "forgotten": "forgotten since",
    "auc": "area under curve",
}
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("model", "stream", "method", "measure")]
    + [("seeds", pa.int64()), ("collapsed", pa.int64())]
    + [(name, pa.float64()) for name in ("mean", "sd", "smallest", "largest")]
)


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    records: list[dict[str, Any]] = []
    for row in retention_of(source, ask, "summary").to_pylist():
        own = {name: row[name] for name in ("model", "stream", "method", "seeds", "collapsed")}
        for name in _SHOWN:
            # A share forgotten has Wilson's interval, the others their spread over seeds.
            sd = row.get(f"{name}_sd")
            low, high = (row["low"], row["high"]) if name == "forgotten" else _around(row[name], sd)
            spread = {"mean": row[name], "sd": sd, "smallest": low, "largest": high}
            records.append(own | {"measure": name} | spread)
    return table_of_records(records, _SCHEMA)


def _around(mean: float | None, sd: float | None) -> tuple[float | None, float | None]:
    if mean is None:
        return None, None
    return mean - (sd or 0.0), mean + (sd or 0.0)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "measure")
    order = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = panels(len(groups), look, across=4, height=0.9 + 0.16 * len(order))
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        dots(axis, own, look, label=lambda row: str(row["method"]), order=order, name=place[2])
        axis.set_title(place_title(rows, place, _SHOWN[place[2]]))
        axis.set_xlabel("share")
        axis.margins(x=0.1)
        if not first_column(axis):
            axis.set_yticklabels([])
    return figure


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return (
        f"The history of all edits, {seeds} seed{'s' * (seeds > 1)}: share right, share forgotten of those that took, "
        "area under the retention curve; bars: sd over seeds, of what was forgotten Wilson's 95 % interval; "
        "crosses: collapsed."
    )


FIGURE = Figure(
    "lifetimes",
    "What was learned, what was kept, what was forgotten?",
    "retention and plasticity by method in long runs",
    "edit_quality",
    _table,
    _draw,
    _caption,
)
