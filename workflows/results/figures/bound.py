"""Measured change of preserved outputs over its lower bound by the energy."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import edits_axis, grouped, legend, panels, place_title, tag
from workflows.results.figures.style import INK, log_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_INPUTS = {"orthonormal": "orthonormal inputs", "moments": "inputs of C0"}


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    found = source.ask("bound")
    remedy = "add 'geometry: {}' to the sweep's evaluators, and run it"
    return needs(found, "output_change_ratio is scored", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = [row for row in table.to_pylist() if row["n"]]
    groups = grouped(rows, "model", "stream", "protocol")
    figure, axes = panels(len(groups), look, across=2, height=2.3)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        for (method,), lives in grouped(own, "method").items():
            edits, colour = [row["edits"] for row in lives], look.of(method)["color"]
            low, high = ([row[name] for row in lives] for name in ("smallest", "largest"))
            tag(axis.fill_between(edits, low, high, color=colour, alpha=0.12, linewidth=0), look, method)
            line = axis.plot(edits, [row["median"] for row in lives], mew=0, **look.of(method))[0]
            tag(line, look, method, [f"{method}\n{row['median']:.3g} at {row['edits']} edits" for row in lives])
        axis.axhline(1, color=INK, linewidth=0.8, linestyle="--")
        axis.set_yscale("log")
        log_ticks(axis.yaxis)
        axis.set_title(place_title(rows, place, _INPUTS.get(place[2], place[2])))
        edits_axis([axis], ylabel="measured change / bound")
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    below = sum(table["below_one"].to_pylist())
    return (
        "Median and range over sites and seeds of |dW K| over its first-order lower bound by the energy; dashed: "
        f"1, the bound itself; {below} value{'s' * (below != 1)} below it."
    )


FIGURE = Figure(
    "bound",
    "How tight is the bound of output change by energy?",
    "SPHERE, Theorem 1 (its empirical check)",
    "geometry",
    _table,
    _draw,
    _caption,
)
