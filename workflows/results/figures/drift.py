"""Each score against energy drift, one point per checkpoint."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import Row, collapses, grouped, legend, panels, place_title, tag
from workflows.results.figures.style import log_ticks
from workflows.results.tables.rank_correlation import Estimate, rank_correlation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

# More points than this in a panel cannot be distinguished, and make a page heavy.
_MOST_POINTS = 1000
_METRICS = ("efficacy", "generalization", "specificity", "general_mean")


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    found = source.ask("drift", metrics=list(ask.metrics or _METRICS), protocol=ask.protocol, against=ask.against)
    remedy = "add 'geometry: {}' to the sweep's evaluators, and run it"
    return needs(found, f"checkpoint with {ask.against} and a score", remedy, where=source.storage.uri)


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "metric", "protocol")
    figure, axes = panels(len(groups), look, across=4 if len(groups) == 4 else 3)
    for axis, (place, own) in zip(axes, groups.items(), strict=True):
        for (method, _), lives in _drawn(own):
            known = [row for row in lives if row["value"] is not None and row["drift"] is not None]
            drifts, values = [row["drift"] for row in known], [row["value"] for row in known]
            tag(axis.plot(drifts, values, color=look.of(method)["color"], alpha=0.25)[0], look, method)
            marks = axis.plot(drifts, values, alpha=0.75, mew=0, **look.of(method) | {"linestyle": "none"})[0]
            texts = [
                f"{method}, seed {row['seed']}\n{place[2]} {row['value']:.4g}, drift {row['drift']:.4g} "
                f"at {row['edits']} edits"
                for row in known
            ]
            tag(marks, look, method, texts)
            lost = [row["drift"] for row in lives if row["value"] is None and row["drift"] is not None]
            collapses(axis, lost, look, method)
        if all(row["drift"] > 0 for row in own if row["drift"] is not None):
            axis.set_xscale("log")
            log_ticks(axis.xaxis)
            axis.tick_params(axis="x", rotation=45)
        found = _rank(own)
        value = "-" if found.value is None else f"{found.value:+.2f}"
        axis.set_title(place_title(rows, place, f"{place[2].replace('_', ' ')}\nρ = {value}"))
        axis.set_xlabel(f"|{own[0]['against']}|")
        axis.set_ylabel(place[3])
    legend(figure, rows, look)
    return figure


def _drawn(rows: list[Row]) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Return the trajectories of a panel that are drawn: all, or every k-th if they have too many points."""
    every = list(grouped(rows, "method", "trajectory_id").items())
    return every[:: -(-len(rows) // _MOST_POINTS)]


def _rank(rows: list[Row]) -> Estimate:
    known = [row for row in rows if row["value"] is not None and row["drift"] is not None]
    x, y = ([float(str(row[name])) for row in known] for name in ("drift", "value"))
    units, strata = ([str(row[name]) for row in known] for name in ("trajectory_id", "method"))
    return rank_correlation(x, y, [], units, strata, resamples=1, seed=0)


def _caption(table: pa.Table) -> str:
    trajectories = len(set(table["trajectory_id"].to_pylist()))
    most = max(len(own) for own in grouped(table.to_pylist(), "model", "stream", "metric", "protocol").values())
    left = f" Of {most} points in a panel at most {_MOST_POINTS} are drawn." if most > _MOST_POINTS else ""
    return (
        f"One point per checkpoint of {trajectories} trajectories, which the lines join; the absolute value of the "
        "drift is averaged over sites. ρ: Spearman over all checkpoints, which grow more edited and worse together; "
        f"'sphere correlate' holds edit count and size of the change fixed. Crosses: collapsed.{left}"
    )


FIGURE = Figure(
    "drift",
    "Does the score fall as the energy drifts?",
    "SPHERE, correlation of energy with performance",
    "geometry",
    _table,
    _draw,
    _caption,
)
