"""What the plans of sweep directories know of trajectories and unedited models, as Arrow tables."""

import functools
import json
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args, get_origin

import pyarrow as pa

from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters import Hyperparameters
from workflows.results.arrow_tables import table_of_records
from workflows.results.sql.sweep_roots import SweepRoot, owned_trajectories
from workflows.store.layout import spec_path
from workflows.store.plan import BasePlan, TrajectoryPlan
from workflows.store.state import TrajectoryState

__all__ = [
    "BASES",
    "HYPERPARAMETER_COLUMNS",
    "PLANNED",
    "SPECIFICATIONS",
    "STARTS",
    "UNEDITED",
    "axes",
    "bases",
    "leaves",
    "planned",
    "read_specifications",
    "specifications",
    "starts",
    "stream_name",
]

UNEDITED = "(unedited)"
_GEOMETRY = "geometry"
_READERS = 32
_NOT_A_NAME = re.compile(r"\W+")

PLANNED = pa.schema(
    [("root", pa.string()), ("sweep", pa.string()), ("place", pa.int64())]
    + [(name, pa.string()) for name in ("trajectory_id", "model", "model_digest", "dtype")]
    + [(name, pa.string()) for name in ("stream", "dataset", "stream_order", "stream_digest")]
    + [(name, pa.string()) for name in ("method", "composition", "editor", "regularizer")]
    + [(name, pa.int64()) for name in ("seed", "batch_size", "planned_edits", "last_edits")]
    + [("state", pa.string()), ("edits_done", pa.int64()), ("collapsed_at", pa.int64())]
    + [("parent", pa.string()), ("tuning", pa.string()), ("steps_done", pa.int64()), ("last_steps", pa.int64())]
)
BASES = pa.schema(
    [("root", pa.string()), ("place", pa.int64())]
    + [(n, pa.string()) for n in ("model", "stream", "method", "model_digest", "dtype", "evaluator", "evaluation_id")]
)
STARTS = pa.schema([(name, pa.string()) for name in ("trajectory_id", "evaluator", "evaluation_id")])


def _column_type(annotation: Any) -> pa.DataType:
    """Return the Arrow type of a hyperparameter: what its annotation is made of."""
    if any(_with_origin(annotation, dict)):
        # Mappings are JSON.
        return pa.string()
    tuples = list(_with_origin(annotation, tuple))
    if tuples:
        items = (inner for found in tuples for inner in get_args(found) if inner is not Ellipsis)
        return pa.list_(_column_type(functools.reduce(operator.or_, items)))
    parts = _leaves(annotation)
    for python, arrow in ((float, pa.float64()), (int, pa.int64()), (str, pa.string()), (bool, pa.bool_())):
        if python in parts:
            return arrow
    raise TypeError(f"a hyperparameter of the type {annotation} has no column")


def _with_origin(annotation: Any, origin: type) -> Iterator[Any]:
    """Yield the types in an annotation that are made by a generic type."""
    if get_origin(annotation) is origin:
        yield annotation
        return
    for inner in get_args(annotation):
        yield from _with_origin(inner, origin)


def _leaves(annotation: Any) -> set[type]:
    found = {annotation} if isinstance(annotation, type) else set()
    for inner in get_args(annotation):
        found |= _leaves(inner) if isinstance(inner, type) or get_args(inner) else {type(inner)}
    return found


# Hyperparameters by the names of their columns: those of the sweep file behind a prefix that keeps them apart.
HYPERPARAMETER_COLUMNS = {
    f"hp_{name}": _column_type(field.annotation) for name, field in Hyperparameters.model_fields.items()
}
SPECIFICATIONS = pa.schema(
    [
        ("trajectory_id", pa.string()),
        *((name, pa.int64()) for name in ("threads", "moments_tokens", "moments_sentences")),
        *HYPERPARAMETER_COLUMNS.items(),
    ]
)


def stream_name(plan: TrajectoryPlan) -> str:
    """Return how tables call a trajectory's stream; the batch size is a part of it unless methods differ in it."""
    name = f"{plan.dataset}, {plan.order}, {plan.edits} edits"
    return name if plan.own_batches else f"{name} in batches of {plan.batch_size}"


def planned(roots: Sequence[SweepRoot]) -> pa.Table:
    """Return one row per trajectory, as planned and as derived from its files (schema: PLANNED)."""
    owned = owned_trajectories(roots)
    return table_of_records([_planned(root, found, place) for place, (root, found) in enumerate(owned)], PLANNED)


def _planned(root: SweepRoot, found: TrajectoryState, place: int) -> dict[str, object]:
    plan = found.plan
    return {
        "root": root.name,
        "sweep": root.plan.name,
        "place": place,
        "trajectory_id": plan.id,
        "model": plan.model,
        "model_digest": plan.model_digest,
        "dtype": plan.dtype,
        "stream": stream_name(plan),
        "dataset": plan.dataset,
        "stream_order": plan.order,
        "stream_digest": plan.stream_digest,
        "method": plan.title,
        "composition": plan.method,
        "editor": plan.editor,
        "regularizer": plan.regularizer,
        "seed": plan.seed,
        "batch_size": plan.batch_size,
        "planned_edits": plan.edits,
        "state": found.state,
        **_progress(found),
    }


def _progress(found: TrajectoryState) -> dict[str, object]:
    """Return how far a trajectory is: in edits, and a fine-tuning in steps."""
    plan, done, collapsed = found.plan, found.edits_done, found.collapsed_at
    last = plan.length if collapsed is None else collapsed
    if plan.parent is None:
        return {"last_edits": last, "edits_done": done, "collapsed_at": collapsed}
    edits = plan.parent.edits
    return {
        "last_edits": edits,
        "edits_done": edits if done else 0,
        "collapsed_at": None if collapsed is None else edits,
        "parent": plan.parent.trajectory,
        "tuning": plan.parent.tuning,
        "steps_done": done,
        "last_steps": last,
    }


def axes(roots: Sequence[SweepRoot]) -> pa.Table:
    """Return one row per trajectory: its values of the sweep files' grids, a column `axis_NAME` for each axis.

    The type of a column is that of its values; values of several kinds, and lists, are JSON.
    """
    owned = owned_trajectories(roots)
    records: list[dict[str, Any]] = [{"trajectory_id": found.plan.id} for _, found in owned]
    types = [("trajectory_id", pa.string())]
    for name in dict.fromkeys(name for _, found in owned for name in found.plan.axes):
        column = f"axis_{_NOT_A_NAME.sub('_', name)}"
        values, kind = _typed([found.plan.axes.get(name) for _, found in owned])
        types.append((column, kind))
        for record, value in zip(records, values, strict=True):
            record[column] = value
    return table_of_records(records, pa.schema(dict(types)))


def _typed(values: Sequence[Any]) -> tuple[Sequence[Any], pa.DataType]:
    """Return the values of a column and its type: their own, or JSON."""
    kinds = {type(value) for value in values if value is not None}
    for allowed, kind in (
        ({bool}, pa.bool_()),
        ({int}, pa.int64()),
        ({int, float}, pa.float64()),
        ({str}, pa.string()),
    ):
        if kinds <= allowed:
            return values, kind
    return [None if value is None else json.dumps(value) for value in values], pa.string()


def bases(roots: Sequence[SweepRoot]) -> pa.Table:
    """Return the unedited model's place in each stream: its own scores, or those that every stream shares."""
    records: dict[tuple[str, ...], dict[str, Any]] = {}
    place = 0
    for root in roots:
        streams = {(t.model, t.model_digest, t.dtype, stream_name(t), t.stream_digest) for t in root.plan.trajectories}
        for base in root.plan.bases:
            for model, digest, dtype, stream, stream_digest in sorted(streams):
                same_model = (base.model_digest, base.dtype) == (digest, dtype)
                if same_model and base.stream_digest in (None, stream_digest):
                    values = (model, stream, UNEDITED, digest, dtype, base.evaluation.kind, base.evaluation.id)
                    record = {"root": root.name, "place": place}
                    record |= dict(zip(BASES.names[2:], values, strict=True))
                    records.setdefault((root.name, *values), record)
            place += 1
    return table_of_records(records.values(), BASES)


def starts(roots: Sequence[SweepRoot], layers: Mapping[str, tuple[int, ...]]) -> pa.Table:
    """Return under which evaluation each trajectory's unedited model was scored, by evaluator (schema: STARTS).

    `layers` are the edited layers by trajectory: geometry of the unedited model is measured at these.
    """
    records = []
    for root, found in owned_trajectories(roots):
        for evaluation in found.plan.evaluations:
            base = _start(root.plan.bases, found.plan, evaluation.kind, layers.get(found.plan.id))
            if base is not None:
                values = (found.plan.id, evaluation.kind, base.evaluation.id)
                records.append(dict(zip(STARTS.names, values, strict=True)))
    return table_of_records(records, STARTS)


def _start(
    known: Iterable[BasePlan], plan: TrajectoryPlan, kind: str, layers: tuple[int, ...] | None
) -> BasePlan | None:
    same = [
        base
        for base in known
        if base.evaluation.kind == kind
        and (base.model_digest, base.dtype) == (plan.model_digest, plan.dtype)
        and base.stream_digest in (None, plan.stream_digest)
    ]
    if kind == _GEOMETRY and layers is not None:
        same = [base for base in same if base.layers == layers]
    return same[0] if same else None


def read_specifications(roots: Sequence[SweepRoot]) -> dict[str, dict[str, Any]]:
    """Return the stored specification of every trajectory that has a readable one, by its id.

    As plain data, so that those of a later release, with keys that this one does not know, are shown and compared too.
    """
    owned = owned_trajectories(roots)

    def read(storage: Storage, trajectory_id: str) -> dict[str, Any] | None:
        try:
            found = json.loads(storage.read_bytes(spec_path(trajectory_id)))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    if all(root.storage.is_local for root in roots):
        read_all = [read(root.storage, found.plan.id) for root, found in owned]
    else:
        with ThreadPoolExecutor(_READERS) as pool:
            read_all = list(pool.map(lambda one: read(one[0].storage, one[1].plan.id), owned))
    pairs = zip(owned, read_all, strict=True)
    return {found.plan.id: spec for (_, found), spec in pairs if spec is not None}


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Return every value of plain data below a path, each with its own path, such as `hyperparameters.strength`.

    What is null is left out.
    """
    if isinstance(value, dict):
        return [leaf for name, own in value.items() for leaf in leaves(own, f"{path}.{name}" if path else name)]
    return [] if value is None else [(path, value)]


def specifications(known: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return one row per trajectory: threads, second moments, and its hyperparameters (schema: SPECIFICATIONS)."""
    records = []
    for trajectory_id, spec in known.items():
        moments, values = spec.get("moments") or {}, spec.get("hyperparameters") or {}
        record = {"trajectory_id": trajectory_id, "threads": spec.get("threads")}
        record |= {"moments_tokens": moments.get("tokens"), "moments_sentences": moments.get("sentences")}
        for name, kind in HYPERPARAMETER_COLUMNS.items():
            value = values.get(name.removeprefix("hp_"))
            if isinstance(value, dict):
                # Settings of plugins' rows, by row.
                value = json.dumps(value, sort_keys=True) if value else None
            # `norm_constraint: false` means none.
            record[name] = None if value is False and kind == pa.float64() else value
        records.append(record)
    return table_of_records(records, SPECIFICATIONS)
