"""The figure of `sphere correlate`: each score against energy drift, and the bound's ratio over edits."""

from collections.abc import Sequence
from typing import Any

from workflows.results.figures.style import STYLE, figure_bytes, grid, log_ticks, series_look
from workflows.results.formats.correlation_view import estimate_text
from workflows.results.tables.correlation import ALL_METHODS, BoundRow, Correlation, Observation

__all__ = ["correlation_figure"]

_AXIS = {"he_drift": "|HE drift|, mean over sites"}
_CAPTION = (
    "points: checkpoints; lines: trajectories; crosses: the score collapsed; "
    "partial ρ: given edits and |dW|; bands: range over sites and seeds"
)
_INPUTS = {"orthonormal": "orthonormal inputs", "moments": "inputs of C0"}


def correlation_figure(
    found: Sequence[Observation], correlated: Sequence[Correlation], bounds: Sequence[BoundRow], *, form: str
) -> bytes:
    """Draw one panel per score and figure, and one per kind of bound; return the bytes of an svg, png or pdf.

    Points are checkpoints, lines trajectories, crosses on the lower edge checkpoints whose score collapsed.
    """
    import matplotlib as mpl

    methods = list(dict.fromkeys(checkpoint.method for checkpoint in found))
    looks = {method: series_look(place) for place, method in enumerate(methods)}
    pairs = list(dict.fromkeys((row.model, row.stream, row.against, row.score) for row in correlated))
    # Orthonormal inputs, the theorem's own assumption, before those of C0.
    drawn = sorted({(row.model, row.stream, row.protocol) for row in bounds if row.n}, reverse=True)
    several = len({pair[:2] for pair in pairs}) > 1
    with mpl.rc_context(STYLE):
        panels = len(pairs) + len(drawn)
        figure, axes = grid(panels, columns=4 if panels > 6 else 3)
        for axis, pair in zip(axes, pairs, strict=False):
            here = [row for row in correlated if (row.model, row.stream, row.against, row.score) == pair]
            checkpoints = [c for c in found if (c.model, c.stream) == pair[:2]]
            _score_panel(axis, checkpoints, here, looks, place=f"{pair[0]}, {pair[1]}\n" if several else "")
        for axis, kind in zip(axes[len(pairs) :], drawn, strict=True):
            rows = [row for row in bounds if (row.model, row.stream, row.protocol) == kind and row.n]
            _bound_panel(axis, rows, looks, place=f"{kind[0]}, {kind[1]}\n" if several else "")
        handles = [mpl.lines.Line2D([], [], linestyle="none", label=method, **look) for method, look in looks.items()]
        figure.supxlabel(_CAPTION, fontsize=8, color="#555555")
        figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 4))
        return figure_bytes(figure, form)


def _score_panel(
    axis: Any,
    checkpoints: Sequence[Observation],
    rows: Sequence[Correlation],
    looks: dict[str, dict[str, Any]],
    *,
    place: str,
) -> None:
    figure, score = rows[0].against, rows[0].score
    for name in dict.fromkeys(c.trajectory for c in checkpoints):
        own = [c for c in checkpoints if c.trajectory == name and c.values.get(figure) is not None]
        look = looks[own[0].method] if own else {}
        points = [(c.values[figure], c.values[score]) for c in own if c.values.get(score) is not None]
        axis.plot(*zip(*points, strict=True) if points else ([], []), alpha=0.25, color=look.get("color"))
        axis.plot(*zip(*points, strict=True) if points else ([], []), linestyle="none", alpha=0.7, mew=0, **look)
        lost = [c.values[figure] for c in own if score in c.values and c.values[score] is None]
        edge = axis.get_xaxis_transform()
        crosses = axis.plot(lost, [0.0] * len(lost), "x", color=look.get("color"), transform=edge, clip_on=False)
        # Drawn outside the axes, they would leave the layout no room for them.
        crosses[0].set_in_layout(False)
    if all((c.values.get(figure) or 0) > 0 for c in checkpoints if c.values.get(figure) is not None):
        axis.set_xscale("log")
        log_ticks(axis.xaxis)
    pooled = next((row for row in rows if row.method == ALL_METHODS), rows[0])
    axis.set_title(
        f"{place}{score}\nρ = {estimate_text(pooled.spearman, short=True)}\n"
        f"partial ρ = {estimate_text(pooled.partial, short=True)}"
    )
    axis.set_xlabel(_AXIS.get(figure, figure))
    axis.set_ylabel(score.partition(" (")[0])


def _bound_panel(axis: Any, rows: Sequence[BoundRow], looks: dict[str, dict[str, Any]], *, place: str) -> None:
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        edits, look = [row.edits for row in own], looks[method]
        smallest, largest = ([getattr(row, name) for row in own] for name in ("smallest", "largest"))
        axis.fill_between(edits, smallest, largest, color=look["color"], alpha=0.12, linewidth=0)
        axis.plot(edits, [row.median for row in own], mew=0, **look)
    axis.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axis.set_yscale("log")
    log_ticks(axis.yaxis)
    axis.set_title(f"{place}measured change / bound\n{_INPUTS.get(rows[0].protocol, rows[0].protocol)}")
    axis.set_xlabel("edits")
    axis.set_ylabel("ratio, median and range")
