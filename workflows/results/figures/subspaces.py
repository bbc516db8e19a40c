"""Dominant subspaces and singular vectors of the edited weights beside the scores, over edits."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.line_panels import LinePanel, line_panels
from workflows.results.figures.panels import seeds_caption

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


def _panel(place: tuple[str, ...]) -> LinePanel:
    track, protocol = place
    title = _TRACKS.get(track, track.replace("_", " "))
    return LinePanel(title, protocol, title)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    return line_panels(
        rows, look, by=("track", "protocol"), panel=_panel, scale=lambda axis, own: axis.set_ylim(-0.02, 1.05)
    )


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
