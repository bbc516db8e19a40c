"""Accuracy by relation: what kinds of facts each method holds at the end."""

from textwrap import shorten
from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import Row, dots, grouped, legend, panels, place_title
from workflows.results.sql.connect import query

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_LEAST_EDITS, _MOST_RELATIONS, _LONGEST = 10, 16, 30


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    protocol = ask.protocol if ask.protocol.startswith("paper-") else "correct"
    values = {"protocol": protocol, "measure": ask.measure, "least": _LEAST_EDITS, "most": _MOST_RELATIONS}
    found = source.probes.sql(query("figures/relations"), params=values).to_arrow_table()
    return needs(
        found,
        f"relation that {_LEAST_EDITS} edits have",
        "records need 'relation_id'; texts of earlier releases lack it: score the unedited model again",
        where=source.storage.uri,
    )


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream")
    methods = list(dict.fromkeys(row["method"] for row in rows))
    most = max(len(grouped(own, "relation")) for own in groups.values())
    figure, axes = panels(len(groups), look, across=2, height=0.8 + most * (0.06 + 0.07 * len(methods)))

    def below(row: Row) -> float:
        return 0.7 * ((methods.index(row["method"]) + 0.5) / len(methods) - 0.5)

    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        relations = list(dict.fromkeys(_label(row) for row in own))
        dots(axis, own, look, label=_label, order=relations, name="accuracy", below=below)
        axis.set_title(place_title(rows, place, ""))
        axis.set_xlabel("accuracy")
    legend(figure, rows, look)
    return figure


def _label(row: Row) -> str:
    """Return a relation's id, which says little by itself, with the beginning of one of its prompts."""
    return f"{row['relation']}: {shorten(row['example'], _LONGEST, placeholder=' …')}"


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    seeds = sorted({row["seeds"] for row in rows})
    return (
        "Edits by the relation of their records, named with one of its prompts: relations of at least "
        f"{_LEAST_EDITS} edits, at the last checkpoint; accuracy is the mean of efficacy and generalization, here over "
        f"{seeds[-1]} seed{'s' * (seeds[-1] > 1)}; bars: {'sd' if seeds[0] >= 3 else 'range'} over seeds; crosses: "
        "collapsed."
    )


FIGURE = Figure(
    "relations",
    "Are some kinds of facts held better than others?",
    "AlphaEdit, Figs. 7 and 10",
    "edit_quality, and records with a relation",
    _table,
    _draw,
    _caption,
)
