"""How far hidden states have moved, over edits."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.line_panels import LinePanel, line_panels
from workflows.results.figures.panels import seeds_caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_NAMES = {
    "hidden_cosine": ("direction", "cosine with the unedited state"),
    "hidden_mean_shift": ("centre", "shift / spread"),
    "hidden_r_max": ("direction that moved most", "R_k, maximum"),
    "hidden_r_median": ("principal directions", "R_k, median"),
    "hidden_shift": ("state of a prompt", "shift / length"),
}


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    remedy = "add 'geometry: {hidden_prompts: [...]}' to the sweep's evaluators, and run it"
    return needs(source.ask("hidden"), "shift of hidden states is scored", remedy, where=source.storage.uri)


def _panel(place: tuple[str, ...]) -> LinePanel:
    title, label = _NAMES.get(place[0], (place[0], place[0]))
    return LinePanel(title, label, label)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    return line_panels(table.to_pylist(), look, by=("metric", "protocol"), panel=_panel)


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    layers = ", ".join(dict.fromkeys(row["protocol"] for row in rows))
    prompts = f"Outputs of {layers} at the last token of {rows[0]['n']} prompts"
    return f"{prompts}, against the unedited model's; {seeds_caption(rows)}."


FIGURE = Figure(
    "hidden",
    "How far do the hidden states move?",
    "AlphaEdit, Figs. 5 and 9 (shift of hidden states) in numbers instead of t-SNE; R_k of arXiv 2606.00570",
    "geometry with hidden_prompts",
    _table,
    _draw,
    _caption,
)
