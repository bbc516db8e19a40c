"""Seconds by stage: editing, and each evaluator."""

from typing import TYPE_CHECKING

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import grouped, panels, place_title, tag
from workflows.results.sql.connect import connect, query

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_STAGES = {"edit": "editing", "edit_quality": "edit quality", "general": "general ability", "geometry": "geometry"}
_SHADES = {"edit": "#0072B2", "edit_quality": "#E69F00", "general": "#56B4E9", "geometry": "#009E73"}
_OTHER = "#8c6d31"
_HATCHES = {"edit": "", "edit_quality": "///", "general": "...", "geometry": "xxx"}


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    with connect(source.storage, source.plan, views=("timings",)) as connection:
        found = connection.sql(query("figures/seconds")).to_arrow_table()
    return needs(found, "timings are stored", "run the sweep; timings are written as it runs", where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    from matplotlib.patches import Patch

    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream")
    most = max(len(grouped(own, "method")) for own in groups.values())
    figure, axes = panels(len(groups), look, across=1, height=0.7 + 0.22 * most)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        methods = grouped(own, "method")
        for height, ((method,), lives) in enumerate(methods.items()):
            left = 0.0
            for row in sorted(lives, key=lambda row: _place(row["stage"])):
                value, stage = row["seconds_per_100_edits"], row["stage"]
                drawn = axis.barh(
                    height,
                    value,
                    left=left,
                    height=0.65,
                    color=_SHADES.get(stage, _OTHER),
                    hatch=_HATCHES.get(stage, ""),
                    edgecolor="#ffffff",
                )
                text = (
                    f"{method}\n{_STAGES.get(stage, stage)}: {value:.3g} s per 100 edits, {row['seeds']} trajectories"
                )
                tag(drawn.patches[0], look, method, [text])
                left += value
        axis.set_yticks(range(len(methods)), [method for (method,) in methods])
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_xlabel("seconds per 100 edits")
        axis.set_title(place_title(rows, place, ""))
        axis.grid(visible=False, axis="y")
    used = sorted({row["stage"] for row in rows}, key=_place)
    patches = [
        Patch(
            facecolor=_SHADES.get(stage, _OTHER),
            hatch=_HATCHES.get(stage, ""),
            edgecolor="#ffffff",
            label=_STAGES.get(stage, stage),
        )
        for stage in used
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=len(patches))
    return figure


def _place(stage: str) -> tuple[int, str]:
    """Return the key by which stages are sorted: the known ones first, in the order of the work."""
    known = list(_STAGES)
    return (known.index(stage) if stage in known else len(known), stage)


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return (
        f"Wall seconds of each stage per 100 edits, summed over a trajectory's checkpoints, mean over {seeds} "
        f"trajector{'ies' if seeds > 1 else 'y'}. Stages of different replicas overlap, and share the machine."
    )


FIGURE = Figure(
    "seconds",
    "Where did the time go?",
    "AlphaEdit, seconds per 100 edits; SPHERE, edit and projection time",
    "timings, which every run writes",
    _table,
    _draw,
    _caption,
)
