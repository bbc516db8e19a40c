"""General ability over edits."""

from typing import TYPE_CHECKING

import pyarrow as pa

from sphere_core.foundation.errors import unknown_name
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import (
    edits_axis,
    grouped,
    legend,
    method_lines,
    panels,
    place_title,
    seeds_caption,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_MOST_PANELS = 9


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    remedy = "run the sweep with the evaluator general; 'sphere ability' lists tasks"
    known = needs(source.ask("ability", tasks=[]), "general ability is scored", remedy, where=source.storage.uri)
    every = known["task"].unique().to_pylist()
    for task in ask.tasks:
        if task not in every:
            raise unknown_name("task", task, every, where="--task")
    return source.ask("ability", tasks=list(ask.tasks)) if ask.tasks else known


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = dict(list(grouped(rows, "model", "stream", "task", "metric").items())[:_MOST_PANELS])
    figure, axes = panels(len(groups), look)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        task, metric = place[2:]
        method_lines(axis, own, look, name=metric)
        axis.set_title(place_title(rows, place, task))
        edits_axis([axis], ylabel=metric.replace("_", " "))
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    count = len(grouped(rows, "model", "stream", "task"))
    left = f"; the first {_MOST_PANELS} of {count} tasks (--task draws others)" if count > _MOST_PANELS else ""
    protocol = "; ".join(dict.fromkeys(row["protocol"] for row in rows))
    return f"General ability ({protocol}); {seeds_caption(rows)}; dotted: the unedited model{left}."


FIGURE = Figure(
    "ability",
    "What happens to general ability along the way?",
    "AlphaEdit, Figs. 4 and 8; REVIVE, GLUE over edits",
    "general",
    _table,
    _draw,
    _caption,
)
