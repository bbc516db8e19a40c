"""Dominant subspaces and singular vectors of the edited weights beside the scores, over edits."""

from typing import TYPE_CHECKING

import pyarrow as pa

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

_TRACKS = {
    "subspace_similarity_left": "subspace similarity, left",
    "subspace_similarity_right": "subspace similarity, right",
    "singular_vector_similarity": "singular vector similarity",
}


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    metrics = list(ask.metrics or ("efficacy", "generalization"))
    found = source.ask("subspaces", tracks=list(_TRACKS), metrics=metrics, protocol=ask.protocol)
    remedy = "add 'geometry: {spectra: true}' to the sweep's evaluators, and run it"
    return needs(found, "subspace similarity is scored", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "track", "protocol")
    figure, axes = panels(len(groups), look)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        title = _TRACKS.get(place[2], place[2].replace("_", " "))
        method_lines(axis, own, look, name=title)
        axis.set_title(place_title(rows, place, title))
        axis.set_ylim(-0.02, 1.05)
        edits_axis([axis], ylabel=place[3])
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    return (
        "Scores, general ability, and the overlap of the dominant singular subspaces and vectors of W_0 and W (mean "
        f"over sites); {seeds_caption(table.to_pylist())}."
    )


FIGURE = Figure(
    "subspaces",
    "Do the dominant directions of the weights survive?",
    "REVIVE, collapse of MEMIT with its subspaces and singular vectors",
    "geometry with spectra",
    _table,
    _draw,
    _caption,
)
