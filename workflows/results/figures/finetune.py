"""What fine-tuning flips: edits, and beside them facts that the unedited model knows."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look
from workflows.results.figures.panels import grouped, legend, panels, place_title
from workflows.results.figures.retention import interval_lines, retention_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_TITLES = {"edits": "edits", "intrinsic": "facts known unedited"}


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    return retention_of(source, ask, "finetune")


def _draw(table: pa.Table, look: Look) -> "Drawing":
    # Without a fact that was right before there is nothing that could flip.
    rows = [{**row, "rate": row["flipped"]} for row in table.to_pylist() if row["n"]]
    groups = grouped(rows, "model", "stream", "tuning", "facts")
    figure, axes = panels(len(groups), look)
    largest = max((row["high"] for row in rows if row["high"] is not None), default=1.0)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        interval_lines(axis, sorted(own, key=lambda row: row["steps"]), look, x="steps")
        axis.set_title(place_title(rows, place, f"{place[2]}: {_TITLES[place[3]]}"))
        axis.set_xlabel("optimiser steps")
        axis.set_ylabel("share flipped")
        axis.set_ylim(-0.02, min(1.02, 1.1 * largest + 0.02))
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return (
        f"Share of facts that were right before fine-tuning and are wrong after it, pooled over {seeds} "
        f"seed{'s' * (seeds > 1)}; bands: Wilson's 95 % interval; crosses: collapsed. Beside the edits: neighborhood "
        "prompts that the unedited model answers rightly, each once."
    )


FIGURE = Figure(
    "finetune",
    "What does fine-tuning do to edits, and to other facts?",
    "edit flip rates after fine-tuning (arXiv 2511.05852), with a control",
    "edit_quality",
    _table,
    _draw,
    _caption,
)
