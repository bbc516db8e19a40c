"""Seconds by stage: the stages of editing, and each evaluator."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import grouped, panels, place_title, tag
from workflows.results.sql.connect import connect_roots, query

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE", "HATCHES"]

# Stages differ by hatch as well, for print without colour. Straight lines only: dots, rings and stars are written as
# hundreds of curves each, 530 KB of a page's 1.7 MB.
HATCHES = ("", "///", "---", "xxx", "\\\\\\", "|||", "+++", "/", "\\\\x")


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    with connect_roots([source.root], views=("stages",)) as connection:
        found = connection.sql(query("figures/seconds")).to_arrow_table()
    return needs(found, "timings are stored", "run the sweep; timings are written as it runs", where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    from matplotlib.patches import Patch

    rows = table.to_pylist()
    looks = _looks(rows, look)
    groups = grouped(rows, "model", "stream")
    most = max(len(grouped(own, "method")) for own in groups.values())
    figure, axes = panels(len(groups), look, across=1, height=0.7 + 0.22 * most)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        methods = grouped(own, "method")
        for height, ((method,), lives) in enumerate(methods.items()):
            left = 0.0
            for row in sorted(lives, key=lambda row: list(looks).index(row["stage"])):
                value = row["seconds_per_100_edits"]
                bar = axis.barh(height, value, left=left, height=0.65, edgecolor="#ffffff", **looks[row["stage"]])
                text = f"{method}\n{row['stage']}: {value:.3g} s per 100 edits, {row['seeds']} trajectories"
                tag(bar.patches[0], look, method, [text])
                left += value
        axis.set_yticks(range(len(methods)), [method for (method,) in methods])
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_xlabel("seconds per 100 edits")
        axis.set_title(place_title(rows, place, ""))
        axis.grid(visible=False, axis="y")
    patches = [Patch(edgecolor="#ffffff", label=stage, **shown) for stage, shown in looks.items()]
    figure.legend(handles=patches, loc="outside upper left", ncols=max(1, min(len(patches), round(look.width / 1.5))))
    return figure


def _looks(rows: list[dict[str, Any]], look: Look) -> dict[str, dict[str, Any]]:
    """Return colour and hatch by stage: those of editing first, the longest first."""
    totals: dict[tuple[bool, str], float] = {}
    for row in rows:
        key = (row["work"] != "edit", row["stage"])
        totals[key] = totals.get(key, 0.0) + row["seconds"]
    ordered = sorted(totals, key=lambda key: (key[0], -totals[key], key[1]))
    return {
        stage: {"facecolor": look.series(place)["color"], "hatch": HATCHES[place % len(HATCHES)]}
        for place, (_, stage) in enumerate(ordered)
    }


def _caption(table: pa.Table) -> str:
    seeds = max(table["seeds"].to_pylist())
    return (
        f"Wall seconds of each stage per 100 edits, summed over a trajectory's checkpoints, mean over {seeds} "
        f"trajector{'ies' if seeds > 1 else 'y'}; what runs beside other work is left out. Replicas share the machine."
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
