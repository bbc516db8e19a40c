"""Every score of every method at the end, each score on an axis of its own."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import Row, dots, first_column, grouped, panels, place_title, tag
from workflows.results.sql.connect import UNEDITED

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_METRICS = ("efficacy", "generalization", "specificity", "portability", "multi_hop", "fluency", "consistency")
_MOST_PANELS = 12


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    metrics = list(ask.metrics or _METRICS)
    found = source.ask("methods", metrics=metrics, protocol=ask.protocol, tasks=list(ask.tasks))
    return needs(found, "scores at the end of a trajectory", "run the sweep to its end", where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = dict(list(grouped(rows, "model", "stream", "score", "protocol").items())[:_MOST_PANELS])
    order = sorted({_label(row): row["method"] != UNEDITED for row in rows}.items(), key=lambda pair: pair[1])
    labels = [label for label, _ in order]
    figure, axes = panels(len(groups), look, across=4, height=0.8 + 0.16 * len(labels))
    for axis, (key, own) in zip(axes, groups.items(), strict=True):
        dots(axis, own, look, label=_label, order=labels, name=key[2])
        for row in own:
            if row["published"] is not None:
                hollow = look.of(row["method"]) | {"linestyle": "none", "mfc": "none", "markersize": 7}
                mark = axis.plot([row["published"]], [labels.index(_label(row))], **hollow)[0]
                tag(mark, look, row["method"], [f"{row['method']}, published\n{key[2]} {row['published']:.4g}"])
        axis.set_title(place_title(rows, key, key[2]))
        axis.set_xlabel(key[3])
        axis.margins(x=0.1)
        if not first_column(axis):
            axis.set_yticklabels([])
    return figure


def _label(row: Row) -> str:
    return "unedited" if row["method"] == UNEDITED else str(row["method"])


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    seeds = sorted({row["seeds"] for row in rows if row["method"] != UNEDITED})
    count = len(grouped(rows, "model", "stream", "score", "protocol"))
    published = "; hollow: published" if any(row["published"] is not None for row in rows) else ""
    left = f" The first {_MOST_PANELS} of {count} scores." if count > _MOST_PANELS else ""
    return (
        f"Every method at its last checkpoint, each axis with a range of its own: mean over {seeds[-1]} seeds; "
        f"bars: {'sd' if seeds[0] >= 3 else 'range'} over seeds; crosses: collapsed{published}.{left}"
    )


FIGURE = Figure(
    "methods",
    "How do the methods compare on every score at the end?",
    "AlphaEdit, Fig. 2, on axes instead of a radar",
    "edit_quality or general",
    _table,
    _draw,
    _caption,
)
