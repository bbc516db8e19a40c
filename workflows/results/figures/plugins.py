"""What a regularizer adds to its editor: an arrow from the editor to editor + regularizer."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import first_column, grouped, panels, place_title, tag
from workflows.results.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_METRICS = ("efficacy", "generalization", "specificity", "general_mean")


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    found = source.ask("plugins", metrics=list(ask.metrics or _METRICS), protocol=ask.protocol)
    remedy = "the sweep must have an editor both alone and with a regularizer, such as memit and memit+sphere"
    return needs(found, "pair of an editor and the same editor with a regularizer", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "score", "protocol")
    order = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = panels(len(groups), look, across=4, height=0.9 + 0.2 * len(order))
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        for row in own:
            _arrow(axis, order.index(row["method"]), row, look, place[2])
        axis.set_yticks(range(len(order)), order)
        axis.set_ylim(len(order) - 0.5, -0.5)
        axis.set_title(place_title(rows, place, place[2]))
        axis.set_xlabel(place[3])
        axis.margins(x=0.12)
        axis.grid(visible=False, axis="y")
        if not first_column(axis):
            axis.set_yticklabels([])
    return figure


def _arrow(axis: "Axes", height: int, row: dict[str, Any], look: Look, score: str) -> None:
    base, own, colour = row["base_mean"], row["mean"], look.of(row["method"])["color"]
    for mean, sd, shade, shift in ((base, row["base_sd"], INK, 0.18), (own, row["sd"], colour, -0.18)):
        if mean is not None and sd:
            axis.plot([mean - sd, mean + sd], [height + shift] * 2, color=shade, linewidth=1, alpha=0.6)
    if base is not None:
        hollow = axis.plot([base], [height], "o", mfc="none", mec=INK)[0]
        tag(hollow, look, row["method"], [f"{row['base']}\n{score} {base:.4g}, {row['base_seeds']} seeds"])
    if own is not None:
        full = axis.plot([own], [height], mew=0, **look.of(row["method"]) | {"linestyle": "none"})[0]
        gain = "" if base is None else f" ({own - base:+.4g})"
        tag(full, look, row["method"], [f"{row['method']}\n{score} {own:.4g}{gain}, {row['seeds']} seeds"])
    else:
        lost = axis.plot([0.02], [height], "x", color=colour, transform=axis.get_yaxis_transform())[0]
        tag(lost, look, row["method"], [f"{row['method']}\n{score} collapsed"])
    if base is not None and own is not None:
        style = {"arrowstyle": "-|>", "color": colour, "shrinkA": 3, "shrinkB": 3, "linewidth": 1}
        axis.annotate("", xy=(own, height), xytext=(base, height), arrowprops=style)


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    seeds = max(row["seeds"] for row in rows)
    return (
        f"From the editor alone (hollow) to the editor with a regularizer, at the last checkpoint, mean over {seeds} "
        f"seed{'s' * (seeds > 1)}; bars: sd over seeds."
    )


FIGURE = Figure(
    "plugins",
    "What does each regularizer add to its editor?",
    "AlphaEdit, Fig. 6; SPHERE, plug-in gains",
    "an editor with and without a regularizer",
    _table,
    _draw,
    _caption,
)
