"""Rank correlations of geometry with the scores over checkpoints, and how tight the energy's bound is.

For every checkpoint of a sweep: x is a figure of geometry, the mean over sites of its absolute value (for `he_drift`
that of |HE - HE_0| / HE_0), y a score. Both, and the controls, grow with the number of edits, so the plain coefficient
is not informative: the partial one holds the edit count and |dW| fixed.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from sphere_core.foundation.errors import InputError, unknown_name
from workflows.results.sql.connect import query, stream_name
from workflows.results.tables.rank_correlation import Estimate, rank_correlation
from workflows.results.tables.table import column_name, column_order
from workflows.store.plan import SweepPlan

__all__ = [
    "ALL_METHODS",
    "WITHIN_METHODS",
    "BoundRow",
    "Correlation",
    "Observation",
    "bound_rows",
    "correlations",
    "later_scores",
    "observations",
    "scores_in",
    "with_published",
]

# Pooled rows: checkpoints ranked among those of all methods, or among those of their own alone.
ALL_METHODS = "(all methods)"
WITHIN_METHODS = "(within methods)"
_POOLED = (ALL_METHODS, WITHIN_METHODS)
_SIZE = "delta_norm"
_DEFAULT_METRICS = ("efficacy", "generalization", "specificity", "score")
# Looser readings of the same answers: shown on request.
_LOOSER_PROTOCOLS = ("probability", "token")


@dataclass(frozen=True)
class Observation:
    """One checkpoint: its figures of geometry, and its scores by the table's column names.

    A figure is named by its metric, or `metric/protocol` if it has several. None means collapsed or failed; what was
    not scored is absent.
    """

    model: str
    stream: str
    method: str
    trajectory: str
    edits: int
    values: dict[str, float | None]


@dataclass(frozen=True)
class Correlation:
    """The correlation of a figure with a score over the checkpoints of one method, or pooled over methods.

    `collapsed` counts the checkpoints that were left out because one of the two is not a number. `lag`: the score is
    that of the checkpoint which is this number of edits later, figure and controls are those of the earlier one.
    """

    model: str
    stream: str
    method: str
    against: str
    score: str
    checkpoints: int
    trajectories: int
    collapsed: int
    spearman: Estimate
    partial: Estimate
    published: float | None = None
    lag: int = 0


@dataclass(frozen=True)
class BoundRow:
    """Measured change of preserved outputs / its lower bound, over the sites and seeds of a method's checkpoint."""

    model: str
    stream: str
    method: str
    edits: int
    protocol: str
    n: int
    smallest: float | None
    median: float | None
    largest: float | None
    below_one: int
    collapsed: int


def observations(connection: duckdb.DuckDBPyConnection, plan: SweepPlan) -> list[Observation]:
    """Gather the checkpoints of a sweep from the view `scores`, in the order of its plan.

    Raises InputError if geometry has not scored any.
    """
    geometry = connection.sql(query("geometry")).to_arrow_table().to_pylist()
    scores = connection.sql(query("scores")).to_arrow_table().to_pylist()
    if not geometry:
        raise InputError(
            "no checkpoint has rows of geometry yet",
            where=f"sweep '{plan.name}'",
            remedy="add 'geometry: {}' to the sweep's evaluators, and run it",
        )
    found: dict[str, dict[int, dict[str, float | None]]] = {}
    names = _figure_names(geometry)
    for record in geometry:
        values = found.setdefault(record["trajectory_id"], {}).setdefault(record["edits"], {})
        values[names[record["metric"], record["protocol"]]] = record["value"]
    for record in scores:
        column = column_name(record["metric"], record["protocol"], record["task"])
        if column is not None:
            values = found.setdefault(record["trajectory_id"], {}).setdefault(record["edits"], {})
            values[column] = record["value"]
    return [
        Observation(trajectory.model, stream_name(trajectory), trajectory.title, trajectory.id, edits, values)
        for trajectory in plan.trajectories
        for edits, values in sorted(found.get(trajectory.id, {}).items())
    ]


def _figure_names(records: Iterable[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Return the names of figures: the metric, with its protocol if it has several."""
    pairs = {(record["metric"], record["protocol"]) for record in records}
    metrics = Counter(metric for metric, _ in pairs)
    return {pair: pair[0] if metrics[pair[0]] == 1 else "/".join(pair) for pair in pairs}


def scores_in(found: Sequence[Observation], wanted: Sequence[str]) -> list[str]:
    """Return the score columns to correlate: those wanted, by column or by metric, or the default ones.

    By default efficacy, generalization, specificity and their mean under every protocol but the looser two
    (`probability`, `token`), and general means. Raises InputError for a name that nothing has been scored by.
    """
    columns = {name for checkpoint in found for name in checkpoint.values if _is_column(name)}
    ordered = sorted(columns, key=column_order)
    if not wanted:
        return [name for name in ordered if _is_default(name)]
    chosen = []
    for name in wanted:
        # Rows say byte_perplexity, columns of tables say byte perplexity.
        heads = {name, name.replace("_", " ")}
        matching = [column for column in ordered if column == name or column.partition(" (")[0] in heads]
        if not matching:
            raise unknown_name("score", name, ordered, where="--score")
        chosen += matching
    return list(dict.fromkeys(chosen))


def _is_column(name: str) -> bool:
    return " (" in name


def _is_default(column: str) -> bool:
    metric, _, protocol = column.rstrip(")").partition(" (")
    return metric == "general mean" or (metric in _DEFAULT_METRICS and protocol not in _LOOSER_PROTOCOLS)


def correlations(
    found: Sequence[Observation], against: Sequence[str], scores: Sequence[str], *, resamples: int, seed: int
) -> list[Correlation]:
    """Correlate each figure with each score in every method and pooled, in both ways, per model and stream.

    Raises InputError for a figure that geometry has not measured.
    """
    figures = sorted({name for checkpoint in found for name in checkpoint.values if not _is_column(name)})
    for name in against:
        if name not in figures:
            raise unknown_name("figure of geometry", name, figures, where="--against")
    results = []
    for place in dict.fromkeys((checkpoint.model, checkpoint.stream) for checkpoint in found):
        here = [checkpoint for checkpoint in found if (checkpoint.model, checkpoint.stream) == place]
        methods = list(dict.fromkeys(checkpoint.method for checkpoint in here))
        for figure in against:
            for score in scores:
                for method in [*methods, *_POOLED] if len(methods) > 1 else methods:
                    chosen = [c for c in here if method in (c.method, *_POOLED)]
                    results.append(_correlate(chosen, method, figure, score, resamples=resamples, seed=seed))
    return results


def with_published(correlated: Sequence[Correlation], plan: SweepPlan) -> list[Correlation]:
    """Return the correlations with those that the sweep file's `published` entries have for the same model, data set,
    method, figure and score."""
    datasets = {(one.model, stream_name(one)): one.dataset for one in plan.trajectories}
    known = {
        (entry.model, entry.dataset, method, entry.against, column_name(metric, entry.protocol, None)): value
        for entry in plan.published_correlations
        for method, values in entry.values.items()
        for metric, value in zip(entry.metrics, values, strict=True)
    }
    return [
        replace(
            row,
            published=known.get((row.model, datasets[row.model, row.stream], row.method, row.against, row.score)),
        )
        for row in correlated
    ]


def later_scores(found: Sequence[Observation], lag: int) -> list[Observation]:
    """Return each checkpoint's figures with the scores of the checkpoint `lag` edits later in the same trajectory.

    Checkpoints without such a later one are left out. Raises InputError if that leaves none.
    """
    known = {(one.trajectory, one.edits): one for one in found}
    pairs = [(one, known.get((one.trajectory, one.edits + lag))) for one in found]
    shifted = [
        replace(
            one,
            values={name: value for name, value in one.values.items() if not _is_column(name)}
            | {name: value for name, value in later.values.items() if _is_column(name)},
        )
        for one, later in pairs
        if later is not None
    ]
    if not shifted:
        gaps = sorted({later.edits - one.edits for one in found for later in found if later.edits > one.edits})
        listed = ", ".join(map(str, gaps[:8])) or "none: a trajectory has one checkpoint"
        raise InputError(
            f"no two checkpoints of a trajectory are {lag} edits apart", where="--lag", remedy=f"there are {listed}"
        )
    return shifted


def _correlate(
    chosen: Sequence[Observation], method: str, figure: str, score: str, *, resamples: int, seed: int
) -> Correlation:
    scored = [c for c in chosen if figure in c.values and score in c.values]
    kept = [c for c in scored if None not in (c.values[figure], c.values[score], c.values.get(_SIZE))]
    x, y, size = ([float(c.values[name] or 0.0) for c in kept] for name in (figure, score, _SIZE))
    held = [[float(c.edits) for c in kept], size]
    units, strata = [c.trajectory for c in kept], [c.method for c in kept]

    def estimate(controls: list[list[float]]) -> Estimate:
        within = method == WITHIN_METHODS
        return rank_correlation(x, y, controls, units, strata, resamples=resamples, seed=seed, within=within)

    return Correlation(
        model=chosen[0].model,
        stream=chosen[0].stream,
        method=method,
        against=figure,
        score=score,
        checkpoints=len(kept),
        trajectories=len(set(units)),
        collapsed=len(scored) - len(kept),
        spearman=estimate([]),
        partial=estimate(held),
    )


def bound_rows(connection: duckdb.DuckDBPyConnection) -> list[BoundRow]:
    """Return measured / bound for every method and checkpoint, over sites and seeds; `protocol` names the inputs.

    Reads the views `scores` and `trajectories`.
    """
    return [BoundRow(**record) for record in connection.sql(query("bound")).to_arrow_table().to_pylist()]
