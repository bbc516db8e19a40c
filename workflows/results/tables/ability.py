"""General ability task by task: scores with intervals, and changes from the unedited model on the same documents."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from evaluators.statistics import Difference, paired_difference, paired_ratio
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from workflows.results.tables.table import UNEDITED, stream_name
from workflows.store.layout import base_name, details_path, scored_name
from workflows.store.plan import BasePlan, SweepPlan, TrajectoryPlan
from workflows.store.row_reader import read_rows
from workflows.store.state import SweepFiles, derive_state, scan

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
# Rows that say what answers look like stand beside the scores of their task.
_HABITS = {"top_answer_share": "top answer", "empty_share": "empty"}
# Documents of both models, paired where the same was asked about the same document.
_PAIRS = """
SELECT a.task, a.filter, m.key AS metric,
       list(m.value ORDER BY a.doc_id) AS after,
       list(b.metrics[m.key] ORDER BY a.doc_id) AS before,
       list(a.weights[m.key] ORDER BY a.doc_id) AS weights
FROM read_parquet($edited) AS a
JOIN read_parquet($unedited) AS b USING (task, filter, doc_id, doc_hash),
     LATERAL (SELECT unnest(map_keys(a.metrics)) AS key, unnest(map_values(a.metrics)) AS value) AS m
GROUP BY ALL
"""


@dataclass(frozen=True)
class _Scored:
    """A checkpoint, or the unedited model, with the file its documents stand in."""

    model: str
    stream: str
    method: str
    seed: int | None
    edits: int
    trajectory_id: str | None
    evaluation_id: str
    documents: str


def ability_table(storage: Storage, plan: SweepPlan, *, by_edits: bool, task: str | None = None) -> pa.Table:
    """Return one row a checkpoint, task and metric, the unedited model's before those of its trajectories.

    `low` and `high` are the score's 95 % interval; `change` is the mean difference to the unedited model over the
    documents both were asked, with its interval and the p of no change (McNemar's exact test for shares, the paired
    t-test for other means; for perplexities the change is that of the mean log-likelihood per word or byte, sign
    turned). It stays empty where one of the two collapsed. The health stands beside each score: answers that were not
    finite or tied, the share of the most frequent answer and that of empty ones. At the last checkpoint of each
    trajectory, or at all.
    Raises InputError where no general ability is scored.
    """
    files = scan(storage)
    rows = read_rows(storage, plan, files)
    rows = rows.filter(pc.equal(rows["evaluator"], _KIND))
    if task is not None:
        rows = rows.filter(pc.equal(rows["task"], task))
    if rows.num_rows == 0:
        raise InputError(
            f"no general ability is scored here{f' for the task {task!r}' if task else ''}",
            where=storage.uri,
            remedy="run the sweep with the evaluator general; 'sphere status' shows what is scored",
        )
    by_subject: dict[tuple[str | None, int, str], list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        by_subject.setdefault((row["trajectory_id"], row["edits"], row["evaluation_id"]), []).append(row)
    records: list[dict[str, Any]] = []
    for base, scored in _subjects(storage, plan, files, by_edits=by_edits):
        found = by_subject.get((scored.trajectory_id, scored.edits, scored.evaluation_id), [])
        changes = _changes(storage, base, scored) if scored is not base else {}
        habits = {(row["task"], _HABITS[row["metric"]]): row["value"] for row in found if row["metric"] in _HABITS}
        for row in found:
            if row["metric"] not in _HABITS:
                record = _record(scored, row, changes.get((row["task"], row["metric"])))
                records.append(record | {name: habits.get((row["task"], name)) for name in _HABITS.values()})
    return pa.Table.from_pylist(records, schema=ABILITY_SCHEMA)


def _subjects(
    storage: Storage, plan: SweepPlan, files: SweepFiles, *, by_edits: bool
) -> Iterator[tuple[_Scored, _Scored]]:
    """Yield (unedited, subject) pairs in the order of the plan, each unedited model once with itself."""
    state = {found.plan.id: found for found in derive_state(storage, plan, files).trajectories}
    seen = set()
    for trajectory in plan.trajectories:
        evaluation = next((item for item in trajectory.evaluations if item.kind == _KIND), None)
        base_plan = _base_of(plan, trajectory)
        if evaluation is None or base_plan is None:
            continue
        base = _unedited(base_plan, stream_name(trajectory), trajectory.model)
        if (base.stream, base.documents) not in seen:
            seen.add((base.stream, base.documents))
            yield base, base
        points = state[trajectory.id].to_score
        for edits in points if by_edits else points[-1:]:
            documents = details_path("documents", scored_name(trajectory.id, edits), evaluation.id)
            yield (
                base,
                _Scored(
                    trajectory.model,
                    stream_name(trajectory),
                    trajectory.title,
                    trajectory.seed,
                    edits,
                    trajectory.id,
                    evaluation.id,
                    documents,
                ),
            )


def _base_of(plan: SweepPlan, trajectory: TrajectoryPlan) -> BasePlan | None:
    same = (trajectory.model_digest, trajectory.dtype)
    bases = (base for base in plan.bases if base.evaluation.kind == _KIND)
    return next((base for base in bases if (base.model_digest, base.dtype) == same), None)


def _unedited(base: BasePlan, stream: str, model: str) -> _Scored:
    documents = details_path("documents", base_name(base.model_digest), base.evaluation.id)
    return _Scored(model, stream, UNEDITED, None, 0, None, base.evaluation.id, documents)


def _changes(storage: Storage, base: _Scored, scored: _Scored) -> dict[tuple[str, str], Difference]:
    """Return the paired difference of each (task, metric) that both models have documents for."""
    if not (storage.exists(base.documents) and storage.exists(scored.documents)):
        return {}
    with ExitStack() as opened, duckdb.connect() as connection:
        paths = {
            name: str(opened.enter_context(storage.as_file(path)))
            for name, path in (("edited", scored.documents), ("unedited", base.documents))
        }
        pairs = connection.execute(_PAIRS, paths).fetchall()
    found = {}
    for task, chosen, metric, after, before, weights in pairs:
        name = metric if chosen == "none" else f"{metric},{chosen}"
        if None in before or None in after:
            continue
        sample = np.array([after, before], dtype=np.float64)
        if not np.isfinite(sample).all():
            continue
        if None in weights:
            found[task, name] = paired_difference(sample[0], sample[1])
        else:
            found[task, name] = paired_ratio(sample[0], sample[1], np.array(weights, dtype=np.float64))
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
