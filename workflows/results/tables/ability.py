"""General ability task by task: scores with intervals, and changes from the unedited model on the same documents."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
import pyarrow as pa

from evaluators.statistics import Difference, paired_difference, paired_ratio
from sphere_core.foundation.errors import InputError
from workflows.results.arrow_tables import table_of_records
from workflows.results.sql.connect import UNEDITED, connect_roots, query, stream_name
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.store.plan import BasePlan, SweepPlan, TrajectoryPlan
from workflows.store.state import SweepState

__all__ = ["ABILITY_SCHEMA", "ability_table"]

_KIND = "general"
ABILITY_SCHEMA = pa.schema(
    [
        ("model", pa.string()),
        ("stream", pa.string()),
        ("method", pa.string()),
        ("seed", pa.int64()),
        ("edits", pa.int64()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("n", pa.int64()),
        ("score", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("status", pa.string()),
        ("change", pa.float64()),
        ("change_low", pa.float64()),
        ("change_high", pa.float64()),
        ("p", pa.float64()),
        ("nonfinite", pa.int64()),
        ("tied", pa.int64()),
        ("top answer", pa.float64()),
        ("empty", pa.float64()),
    ]
)
# Rows about the form of answers are shown with the scores of their task.
_HABITS = {"top_answer_share": "top answer", "empty_share": "empty"}


@dataclass(frozen=True)
class _Scored:
    """A checkpoint, or the unedited model, as the table names it."""

    model: str
    stream: str
    method: str
    seed: int | None
    edits: int
    trajectory_id: str | None
    evaluation_id: str


def ability_table(root: SweepRoot, *, by_edits: bool, task: str | None = None) -> pa.Table:
    """Return one row per checkpoint, task and metric, the unedited model's before those of its trajectories.

    `low` and `high` are the score's 95 % interval; `change` is the mean difference to the unedited model over the
    documents of both, with its interval and the p-value of no change (McNemar's exact test for shares, the paired
    t-test for other means; for perplexities the change is that of the mean log-likelihood per word or byte, sign
    turned). It is empty if one of the two collapsed. Each score has its health: answers that were not finite or tied,
    the share of the most frequent answer and that of empty ones. At the last checkpoint of each trajectory, or at all.
    Raises InputError if no general ability is scored.
    """
    at: Literal["every", "last"] = "every" if by_edits else "last"
    with connect_roots([root], views=("rows", "documents"), checkpoints=at) as connection:
        rows = connection.sql(query("ability"), params={"task": task}).to_arrow_table().to_pylist()
        if not rows:
            raise InputError(
                f"no general ability is scored here{f' for the task {task!r}' if task else ''}",
                where=root.name,
                remedy="run the sweep with the evaluator general; 'sphere status' shows what is scored",
            )
        changes = _changes(connection, task)
    by_subject: dict[tuple[str | None, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        by_subject.setdefault((row["trajectory_id"], row["edits"], row["evaluation_id"]), []).append(row)
    records: list[dict[str, Any]] = []
    for scored in _subjects(root.plan, root.state, by_edits=by_edits):
        found = by_subject.get((scored.trajectory_id, scored.edits, scored.evaluation_id), [])
        habits = {(row["task"], _HABITS[row["metric"]]): row["value"] for row in found if row["metric"] in _HABITS}
        for row in found:
            if row["metric"] not in _HABITS:
                change = changes.get((scored.trajectory_id, scored.edits, row["task"], row["metric"]))
                record = _record(scored, row, change)
                records.append(record | {name: habits.get((row["task"], name)) for name in _HABITS.values()})
    return table_of_records(records, ABILITY_SCHEMA)


def _subjects(plan: SweepPlan, state: SweepState, *, by_edits: bool) -> Iterator[_Scored]:
    """Yield the subjects of the table in the order of the plan, each unedited model before its first trajectory."""
    seen = set()
    for found in state.trajectories:
        trajectory = found.plan
        evaluation = next((item for item in trajectory.evaluations if item.kind == _KIND), None)
        base = _base_of(plan, trajectory)
        if evaluation is None or base is None:
            continue
        stream = stream_name(trajectory)
        unedited = _Scored(trajectory.model, stream, UNEDITED, None, 0, None, base.evaluation.id)
        if (stream, base.model_digest, base.evaluation.id) not in seen:
            seen.add((stream, base.model_digest, base.evaluation.id))
            yield unedited
        for edits in found.to_score if by_edits else found.to_score[-1:]:
            yield _Scored(
                trajectory.model, stream, trajectory.title, trajectory.seed, edits, trajectory.id, evaluation.id
            )


def _base_of(plan: SweepPlan, trajectory: TrajectoryPlan) -> BasePlan | None:
    same = (trajectory.model_digest, trajectory.dtype)
    bases = (base for base in plan.bases if base.evaluation.kind == _KIND)
    return next((base for base in bases if (base.model_digest, base.dtype) == same), None)


def _changes(
    connection: duckdb.DuckDBPyConnection, task: str | None
) -> dict[tuple[str | None, int, str, str], Difference]:
    """Return the paired difference of each (trajectory, edits, task, metric) that both models have documents for."""
    found = {}
    pairs = connection.execute(query("ability_changes"), {"task": task})
    while (row := pairs.fetchone()) is not None:
        trajectory_id, edits, name, chosen, metric, after, before, weights = row
        column = metric if chosen == "none" else f"{metric},{chosen}"
        if None in before or None in after:
            continue
        sample = np.array([after, before], dtype=np.float64)
        if not np.isfinite(sample).all():
            continue
        key = (trajectory_id, edits, name, column)
        if None in weights:
            found[key] = paired_difference(sample[0], sample[1])
        else:
            found[key] = paired_ratio(sample[0], sample[1], np.array(weights, dtype=np.float64))
    return found


def _record(scored: _Scored, row: dict[str, Any], change: Difference | None) -> dict[str, Any]:
    told = change if row["status"] == "ok" else None
    low, high = (None, None) if told is None or told.interval is None else told.interval
    return {
        "model": scored.model,
        "stream": scored.stream,
        "method": scored.method,
        "seed": scored.seed,
        "edits": scored.edits,
        "task": row["task"],
        "metric": row["metric"],
        "n": row["n"],
        "score": row["value"],
        "low": row["ci_low"],
        "high": row["ci_high"],
        "status": row["status"],
        "change": None if told is None else told.value,
        "change_low": low,
        "change_high": high,
        "p": None if told is None else told.p,
        "nonfinite": row["nonfinite"],
        "tied": row["tied"],
    }
