"""Forest plot of what predicts that an edit is lost."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import grouped, legend, panels, place_title, tag
from workflows.results.figures.retention import retention_of
from workflows.results.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_NAMES = {"strength": "margin when written", "written": "place in the stream"}


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    found = retention_of(source, ask, "predictors")
    remedy = "a correlation requires edits that were lost and edits that were kept; 'sphere retention ROOT' counts them"
    return needs(found, "predictor of forgetting", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream")
    most = max(len(own) for own in groups.values())
    figure, axes = panels(len(groups), look, across=1, height=0.7 + 0.13 * most)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        labels = list(dict.fromkeys(row["predictor"] for row in own))
        methods = list(dict.fromkeys(row["method"] for row in own))
        for row in own:
            step = (methods.index(row["method"]) + 0.5) / len(methods) - 0.5
            height = labels.index(row["predictor"]) + 0.75 * step
            look_of = look.of(row["method"]) | {"linestyle": "none"}
            axis.plot([row["low"], row["high"]], [height, height], color=look_of["color"], linewidth=1.2)
            mark = axis.plot([row["spearman"]], [height], mew=0, **look_of)[0]
            given = "" if row["given_age"] is None else f", given the place in the stream {row['given_age']:+.2f}"
            text = f"{row['method']}\n{_label(row['predictor'])}: {row['spearman']:+.2f}{given}\nn = {row['n']}"
            tag(mark, look, row["method"], [text])
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set_yticks(range(len(labels)), [_label(label) for label in labels])
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_title(place_title(rows, place, ""))
        axis.set_xlabel("Spearman's ρ with being lost")
        axis.grid(visible=False, axis="y")
    legend(figure, rows, look)
    return figure


def _label(predictor: str) -> str:
    kind, _, layer = predictor.partition("_cosine_layer")
    if layer:
        return f"{'largest' if kind == 'max' else 'mean'} cosine to later keys, layer {layer}"
    return _NAMES.get(predictor, predictor)


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    keys = "" if any("cosine" in row["predictor"] for row in rows) else " Similarity of keys requires keep_keys: true."
    return (
        "Among edits that took: rank correlation of what was known of an edit with its being lost, trajectories pooled "
        f"by Fisher's z, with 95 % intervals.{keys}"
    )


FIGURE = Figure(
    "predictors",
    "What predicts that an edit is lost?",
    "forest plot of predictors of forgetting, as correlations instead of odds ratios",
    "edit_quality; keep_keys: true for similarity of keys",
    _table,
    _draw,
    _caption,
)
