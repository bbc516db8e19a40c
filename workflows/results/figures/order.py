"""Final success by the order of the stream."""

from typing import TYPE_CHECKING

import pyarrow as pa

from sphere_core.foundation.errors import InputError
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look
from workflows.results.figures.panels import collapses, grouped, legend, panels, tag
from workflows.results.figures.retention import retention_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_SPREAD = 0.5


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    found = retention_of(source, ask, "order")
    names = ["stream_order" if name == "order" else name for name in found.column_names]
    if len(set(found.rename_columns(names)["stream_order"].to_pylist())) < 2:
        raise InputError(
            "there is nothing to draw: all streams of this sweep have one order",
            where=source.storage.uri,
            remedy="give the sweep several streams with another 'order' each (examples/orders.yaml)",
        )
    return found.rename_columns(names)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "dataset", "edits")
    figure, axes = panels(len(groups), look, across=2, height=2.4)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        orders = list(dict.fromkeys(row["stream_order"] for row in own))
        methods = grouped(own, "method")
        for step, ((method,), lives) in enumerate(methods.items()):
            shift = _SPREAD * ((step + 0.5) / len(methods) - 0.5)
            known = [row for row in lives if row["final"] is not None]
            x = [orders.index(row["stream_order"]) + shift for row in known]
            for at, row in zip(x, known, strict=True):
                axis.plot([at, at], [row["low"], row["high"]], color=look.of(method)["color"], linewidth=1)
            marks = axis.plot(x, [row["final"] for row in known], mew=0, **look.of(method) | {"linestyle": "none"})[0]
            texts = [f"{method}\n{row['stream_order']}: {row['final']:.3f}, {row['seeds']} seeds" for row in known]
            tag(marks, look, method, texts)
            lost = [orders.index(row["stream_order"]) + shift for row in lives if row["final"] is None]
            collapses(axis, lost, look, method)
        axis.set_xticks(range(len(orders)), orders)
        axis.set_xlim(-0.5, len(orders) - 0.5)
        axis.set_title(f"{place[0]}, {place[1]}, {place[2]} edits")
        axis.set_ylabel("share right at the end")
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return f"Success of all edits at the end, {seeds} seed{'s' * (seeds > 1)}; bars: Wilson's 95 % interval."


FIGURE = Figure(
    "order",
    "Does the order of the same edits matter?",
    "order sensitivity of long runs",
    "edit_quality and several orders",
    _table,
    _draw,
    _caption,
)
