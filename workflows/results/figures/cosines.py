"""Histogram of the cosines between rows of the edited weights, before and after."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import grouped, legend, panels, place_title, tag
from workflows.results.figures.style import INK
from workflows.results.sql.connect import UNEDITED

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_MOST_PANELS = 6


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    remedy = "add 'geometry: {measures: [cosines]}' to the sweep's evaluators, and run it"
    return needs(source.ask("cosines"), "histogram of row cosines is scored", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = dict(list(grouped(rows, "model", "stream", "site").items())[:_MOST_PANELS])
    figure, axes = panels(len(groups), look, across=2, height=2.4)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        for (method,), bins in grouped(own, "method").items():
            known = [row for row in bins if row["share"]]
            look_of = look.of(method)
            if method == UNEDITED:
                look_of |= {"color": INK, "marker": "", "linestyle": ":"}
            middles = [(row["low"] + row["high"]) / 2 for row in known]
            line = axis.plot(middles, [row["share"] for row in known], mew=0, **look_of)[0]
            texts = [
                f"{method}\n{row['share']:.3g} of the pairs have a cosine in [{row['low']:g}, {row['high']:g})"
                for row in known
            ]
            tag(line, look, method, texts if method != UNEDITED else [f"{method}"])
        axis.set_yscale("log")
        axis.set_xlim(-1, 1)
        axis.set_title(place_title(rows, place, place[2]))
        axis.set_xlabel("cosine of two rows")
        axis.set_ylabel("share of pairs")
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return (
        "Share of the pairs of rows (neurons) of each edited weight by their cosine, in 20 bins, on a logarithmic "
        f"axis, at the last checkpoint, mean over {seeds} seed{'s' * (seeds > 1)}; dotted: the unedited model. Empty "
        "bins have no mark."
    )


FIGURE = Figure(
    "cosines",
    "How do the directions of the neurons spread?",
    "SPHERE, rows of the weights before and after, as a histogram instead of t-SNE",
    "geometry with measures: [cosines]",
    _table,
    _draw,
    _caption,
)
