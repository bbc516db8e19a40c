"""General ability over edits."""

from typing import TYPE_CHECKING

import pyarrow as pa

from sphere_core.foundation.errors import unknown_name
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.line_panels import LinePanel, line_panels
from workflows.results.figures.panels import grouped, seeds_caption

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


def _panel(place: tuple[str, ...]) -> LinePanel:
    task, metric = place
    return LinePanel(task, metric.replace("_", " "), metric)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    return line_panels(table.to_pylist(), look, by=("task", "metric"), panel=_panel, most=_MOST_PANELS)


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
