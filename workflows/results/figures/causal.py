"""What the spectrum of the weights carries: ability over the share kept, and over the band that noise lies in."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sphere_core.foundation.errors import unknown_name
from workflows.results.arrow_tables import table_of_records
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import Row, grouped, panels, place_title, tag
from workflows.results.figures.style import INK
from workflows.results.sql.plan_tables import read_specifications

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_TRUNCATE, _PERTURB = "truncate", "perturb"
_LEVELS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        ("experiment", pa.string()),
        ("edits", pa.int64()),
        ("level", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("share", pa.string()),
    ]
)
_SPECTRA = {"sum": "sum of singular values", "squares": "sum of their squares", "count": "number of directions"}


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    remedy = "run examples/revive_causal.yaml: methods truncate and perturb, evaluator general"
    levels = needs(
        table_of_records(list(_levels(source)), _LEVELS),
        "trajectory of truncate or perturb",
        remedy,
        where=source.storage.uri,
    )
    source.connection.register("levels", levels)
    for task in ask.tasks:
        known = source.ask("ability", tasks=[])["task"].unique().to_pylist()
        if task not in known:
            raise unknown_name("task", task, known, where="--task")
    found = source.ask("causal", tasks=list(ask.tasks))
    return needs(found, "general ability of truncate or perturb is scored", remedy, where=source.storage.uri)


def _levels(source: FigureSource) -> Iterator[dict[str, Any]]:
    """Yield the level of every step of the trajectories that change the spectrum and write nothing."""
    specifications = read_specifications([source.root])
    for plan in source.plan.trajectories:
        values = specifications.get(plan.id, {}).get("hyperparameters", {})
        if plan.method in (_TRUNCATE, _PERTURB) and values.get("spectrum_levels"):
            low, high = values.get("perturb_band") or (0.0, 1.0)
            band = {"low": low, "high": high} if plan.method == _PERTURB else {}
            for step, level in enumerate(values["spectrum_levels"], 1):
                record = {"trajectory_id": plan.id, "experiment": plan.method, "level": level}
                yield record | {"edits": step * plan.batch_size, "share": values.get("spectrum_share"), **band}


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "task", "experiment")
    figure, axes = panels(len(groups), look, across=2, height=2.4)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        title, share = "", _SPECTRA.get(own[0]["share"], own[0]["share"])
        if own[0]["unedited"] is not None:
            axis.axhline(own[0]["unedited"], color=INK, linewidth=0.8, linestyle=":")
        if place[3] == _TRUNCATE:
            _series(axis, own, look, look.of(own[0]["method"]), lambda row: row["level"])
            title = "the leading part kept"
            axis.set_ylim(bottom=0)
            axis.set_xlabel(f"share kept of the {share}")
        else:
            _bands(axis, own, look)
            title = "noise in one band"
            axis.set_xlabel(f"band, in shares of the {share}")
        axis.set_title(place_title(rows, (*place[:2], ""), f"{place[2]}: {title}"))
        axis.set_ylabel(own[0]["metric"].replace("_", " "))
        axis.set_xlim(0, 1)
    return figure


def _bands(axis: "Axes", rows: list[Row], look: Look) -> None:
    """Draw a line per norm of the noise over the bands, the largest norm first in the legend."""
    for place, ((level,), own) in enumerate(grouped(reversed(rows), "level").items()):
        shown = look.series(place)
        ordered = sorted(own, key=lambda row: row["low"])
        _series(axis, ordered, look, shown, lambda row: (row["low"] + row["high"]) / 2, label=f"{level:g}")
    small = {"fontsize": "x-small", "title_fontsize": "x-small"}
    axis.legend(title="noise / weight, norms", ncols=2, loc="lower right", **small)
    edges = sorted({row["low"] for row in rows} | {row["high"] for row in rows})
    axis.set_xticks(edges, [f"{edge:g}" for edge in edges])


def _series(axis: "Axes", rows: list[Row], look: Look, shown: dict[str, Any], x: Any, *, label: str = "") -> None:
    """Draw a line with a mark per row; each mark belongs to the method of its row, collapsed ones are crosses."""
    known = [row for row in rows if row["mean"] is not None]
    axis.plot([x(row) for row in known], [row["mean"] for row in known], mew=0, **shown, label=label or None)
    for row in rows:
        if row["mean"] is None:
            mark = axis.plot([x(row)], [0.0], "x", color=shown["color"], clip_on=False)[0]
        else:
            mark = axis.plot([x(row)], [row["mean"]], mew=0, **shown | {"linestyle": "none"})[0]
        tag(mark, look, row["method"], [_hover(row)])


def _hover(row: Row) -> str:
    value = "collapsed" if row["mean"] is None else f"{row['mean']:.4g}"
    where = f"share kept {row['level']:g}"
    if row["experiment"] == _PERTURB:
        where = f"noise {row['level']:g}, band {row['low']:g} to {row['high']:g}"
    return f"{row['method']}\n{where}\n{row['metric']} {value}"


def _caption(table: pa.Table) -> str:
    rows = table.to_pylist()
    most = max(row["trajectories"] for row in rows)
    protocol = "; ".join(dict.fromkeys(row["protocol"] for row in rows))
    mean = f", mean over {most} trajectories" if most > 1 else ""
    return (
        f"General ability ({protocol}) of weights of which a part of the spectrum is kept, or in a part of which there "
        f"is noise; no request is written{mean}; dotted: the unedited model; crosses: collapsed."
    )


FIGURE = Figure(
    "causal",
    "Which part of the spectrum does the model require?",
    "REVIVE, reconstruction from the leading directions and perturbation by band",
    "the methods truncate and perturb, and general",
    _table,
    _draw,
    _caption,
)
