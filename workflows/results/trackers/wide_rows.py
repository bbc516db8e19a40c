"""Checkpoints as wide rows: every score and every mean of geometry of a checkpoint by one name each."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workflows.results.sql.connect import connect_roots
from workflows.results.sql.sweep_roots import SweepRoot
from workflows.store.state import TrajectoryState

__all__ = ["TrackedRun", "WideRow", "tracked_runs"]

_UNEDITED = 0
_QUERY = """
SELECT trajectory_id, edits, evaluator, metric, protocol, task, value, status, unedited FROM scores
UNION ALL
SELECT trajectory_id, edits, 'geometry', metric, protocol, NULL, value, status, unedited FROM geometry_means
"""
_NOT_SETTINGS = ("root", "place", "state", "edits_done", "collapsed_at")


@dataclass(frozen=True)
class WideRow:
    """A checkpoint: its edits, and its numbers by `evaluator/metric/protocol`, with `/task` where there is one.

    `collapsed` counts the scores that have no number because the model has collapsed.
    """

    edits: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """A trajectory as a run: its id, name, group (the sweep), settings, and rows in the order of their edits.

    `finished`: nothing is left to edit or to score, so that no row will follow.
    """

    id: str
    name: str
    group: str
    settings: Mapping[str, Any]
    rows: tuple[WideRow, ...]
    finished: bool


def tracked_runs(root: SweepRoot, sent: Mapping[str, Collection[int]]) -> Iterator[TrackedRun]:
    """Yield the trajectories that have checkpoints which every evaluator has scored and which are not in `sent`.

    `sent` holds edit counts by trajectory. The unedited model's numbers are the row of 0 edits, as soon as there is
    another.
    """
    waiting = {
        one.plan.id: fresh
        for one in root.state.trajectories
        if (fresh := _scored(one) - set(sent.get(one.plan.id, ())))
    }
    if not waiting:
        return
    states = tuple(one for one in root.state.trajectories if one.plan.id in waiting)
    plan = root.plan.model_copy(update={"trajectories": tuple(one.plan for one in states)})
    part = replace(root, plan=plan, state=replace(root.state, trajectories=states))
    with connect_roots([part], views=("scores", "geometry_means", "trajectories")) as connection:
        found = connection.sql(_QUERY).to_arrow_table().to_pylist()
        described = connection.sql("FROM trajectories").to_arrow_table().to_pylist()
    settings = {row["trajectory_id"]: row for row in described}
    values: dict[str, dict[int, dict[str, float]]] = {}
    for row in found:
        _add(values.setdefault(row["trajectory_id"], {}), row)
    for one in states:
        own = values.get(one.plan.id, {})
        steps = sorted(waiting[one.plan.id] | ({_UNEDITED} - set(sent.get(one.plan.id, ()))))
        rows = tuple(WideRow(edits, own[edits]) for edits in steps if edits in own)
        known = {k: v for k, v in settings[one.plan.id].items() if v is not None and k not in _NOT_SETTINGS}
        name = f"{one.plan.title}, {one.plan.model}, seed {one.plan.seed}"
        yield TrackedRun(one.plan.id, name, root.plan.name, known, rows, one.is_finished)


def _scored(one: TrajectoryState) -> set[int]:
    missing = {edits for edits, _ in one.missing}
    return {edits for edits in one.to_score if edits not in missing}


def _add(steps: dict[int, dict[str, float]], row: Mapping[str, Any]) -> None:
    name = "/".join(row[part] for part in ("evaluator", "metric", "protocol", "task") if row[part] is not None)
    own = steps.setdefault(row["edits"], {"collapsed": 0.0})
    if row["value"] is not None:
        own[name] = row["value"]
    elif row["status"] == "collapsed":
        own["collapsed"] += 1.0
    if row["unedited"] is not None:
        steps.setdefault(_UNEDITED, {})[name] = row["unedited"]
