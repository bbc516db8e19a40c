"""What is kept over edits: all edits so far, the first cohort and the latest one."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look
from workflows.results.figures.panels import collapses, edits_axis, grouped, legend, panels, place_title, tag
from workflows.results.tables.retention import RetentionAsk

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE", "interval_lines", "retention_of"]


def retention_of(source: FigureSource, ask: FigureAsk, name: str) -> pa.Table:
    """Return a table of `sphere retention`, for the probes that an ask names; raises InputError if none are stored."""
    protocol = ask.protocol if ask.protocol.startswith("paper-") else "correct"
    return source.retention(RetentionAsk(name, ask.role, protocol, ask.measure))


def interval_lines(axis: "Axes", rows: list[dict[str, Any]], look: Look, *, x: str) -> None:
    """Draw the rate of each method over x with its interval as a band; collapsed ones as crosses."""
    for (method,), own in grouped(rows, "method").items():
        known = [row for row in own if row["rate"] is not None]
        places = [row[x] for row in known]
        band = axis.fill_between(
            places,
            [row["low"] for row in known],
            [row["high"] for row in known],
            color=look.of(method)["color"],
            alpha=0.13,
            linewidth=0,
        )
        tag(band, look, method)
        line = axis.plot(places, [row["rate"] for row in known], mew=0, **look.of(method))[0]
        texts = [
            f"{method}\n{row['rate']:.3f} [{row['low']:.3f}, {row['high']:.3f}] at {x.replace('_', ' ')} {row[x]}\n"
            f"n = {row['n']}"
            for row in known
        ]
        tag(line, look, method, texts)
        collapses(axis, [row[x] for row in own if row["rate"] is None], look, method)


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    return retention_of(source, ask, "cohorts")


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(sorted(rows, key=lambda row: row["cohort"]), "model", "stream", "cohort")
    figure, axes = panels(len(groups), look)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        interval_lines(axis, sorted(own, key=lambda row: row["edits"]), look, x="edits")
        axis.set_title(place_title(rows, place, "all edits so far" if place[2] == "all" else f"{place[2]} edits"))
        edits_axis([axis], ylabel="share right")
        axis.set_ylim(-0.02, 1.02)
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return (
        f"Share of edits still right at each checkpoint, pooled over {seeds} seed{'s' * (seeds > 1)}; bands: Wilson's "
        "95 % interval; crosses: collapsed."
    )


FIGURE = Figure(
    "retention",
    "How many edits are kept, of all, the first and the latest?",
    "failure curves and first against latest edits of long runs",
    "edit_quality",
    _table,
    _draw,
    _caption,
)
