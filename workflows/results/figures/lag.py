"""Rank correlation of energy drift now with the score h edits later."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from workflows.results.arrow_tables import table_of_records
from workflows.results.figures.contract import Figure, FigureAsk, FigureSource, Look, needs
from workflows.results.figures.panels import grouped, legend, panels, place_title, tag
from workflows.results.figures.style import INK
from workflows.results.tables.rank_correlation import rank_correlation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

__all__ = ["FIGURE"]

_METRICS = ("efficacy", "specificity", "general_mean")
# A coefficient of fewer pairs says nothing.
_LEAST_PAIRS = 6
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("model", "stream", "method", "metric", "protocol", "against")]
    + [("lag", pa.int64()), ("pairs", pa.int64()), ("trajectories", pa.int64())]
    + [("spearman", pa.float64()), ("given_edits", pa.float64())]
)


def _table(source: FigureSource, ask: FigureAsk) -> pa.Table:
    found = source.ask("drift", metrics=list(ask.metrics or _METRICS), protocol=ask.protocol, against=ask.against)
    records: list[dict[str, Any]] = []
    for place, own in grouped(found.to_pylist(), "model", "stream", "method", "metric", "protocol", "against").items():
        names = ("model", "stream", "method", "metric", "protocol", "against")
        records += [dict(zip(names, place, strict=True)) | row for row in _lags(own)]
    remedy = f"a lag requires {_LEAST_PAIRS} pairs of checkpoints with geometry and scores; set checkpoint_every lower"
    return needs(table_of_records(records, _SCHEMA), "lag", remedy, where=source.storage.uri)


def _lags(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the coefficients by lag: drift of a checkpoint with the score of a later one of the same trajectory."""
    scores = {(row["trajectory_id"], row["edits"]): row["value"] for row in rows if row["value"] is not None}
    drifts = [row for row in rows if row["drift"] is not None]
    steps = sorted({row["edits"] for row in rows})
    lags = []
    for lag in [0, *(step - steps[0] for step in steps[1:])]:
        pairs = [
            (row["drift"], scores[row["trajectory_id"], row["edits"] + lag], row["edits"], row["trajectory_id"])
            for row in drifts
            if (row["trajectory_id"], row["edits"] + lag) in scores
        ]
        if len(pairs) < _LEAST_PAIRS:
            continue
        x, y, edits, units = (list(column) for column in zip(*pairs, strict=True))
        strata = [""] * len(pairs)
        plain, given = (rank_correlation(x, y, held, units, strata, resamples=1, seed=0) for held in ([], [edits]))
        counts = {"lag": lag, "pairs": len(pairs), "trajectories": len(set(units))}
        lags.append(counts | {"spearman": plain.value, "given_edits": given.value})
    return lags


def _draw(table: pa.Table, look: Look) -> "Drawing":
    rows = table.to_pylist()
    groups = grouped(rows, "model", "stream", "metric")
    shown = (("spearman", "Spearman"), ("given_edits", "given edits"))
    figure, axes = panels(2 * len(groups), look, across=min(len(groups), 3) if len(groups) > 1 else 2)
    order = (
        [(*key, *kind) for kind in shown for key in groups]
        if len(groups) in (1, 2, 3)
        else [(*key, *kind) for key in groups for kind in shown]
    )
    for axis, (model, stream, metric, column, label) in zip(axes, order, strict=True):
        for (method,), own in grouped(groups[model, stream, metric], "method").items():
            known = [row for row in own if row[column] is not None]
            line = axis.plot([row["lag"] for row in known], [row[column] for row in known], mew=0, **look.of(method))[0]
            texts = [
                f"{method}\n{label} {row[column]:+.2f}, {row['lag']} edits later, {row['pairs']} pairs" for row in known
            ]
            tag(line, look, method, texts)
        axis.axhline(0, color=INK, linewidth=0.8)
        axis.set_ylim(-1.05, 1.05)
        axis.set_title(place_title(rows, (model, stream), metric.replace("_", " ")))
        axis.set_xlabel("edits later")
        axis.set_ylabel(label)
    legend(figure, rows, look)
    return figure


def _caption(table: pa.Table) -> str:
    against = table["against"][0].as_py()
    return (
        f"Rank correlation of |{against}| at a checkpoint with the score h edits later in the same trajectory, within "
        "each method over seeds and checkpoints; 'given edits' holds the checkpoint's edit count fixed. Below zero at "
        "h > 0 and given edits, geometry shows earlier what the score shows later."
    )


FIGURE = Figure(
    "lag",
    "Does geometry show it earlier than the score?",
    "extends SPHERE's correlation of energy with performance by a lag",
    "geometry",
    _table,
    _draw,
    _caption,
)
