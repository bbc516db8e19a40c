"""Plans, scores and checkpoints written by hand, for tests of what is read from a sweep's files."""

from evaluators.base import Score
from sphere_core.checkpoint_files import MANIFEST, STATE, WEIGHTS, Manifest
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import SubjectColumns, encode_rows, publish_rows
from workflows.store.layout import checkpoint_path
from workflows.store.plan import BasePlan, Evaluation, TrajectoryPlan

QUALITY = Evaluation(kind="edit_quality", id="e" * 12)
GEOMETRY = Evaluation(kind="geometry", id="f" * 12)


def score(metric: str, protocol: str, value: float | None, task: str | None = None) -> Score:
    status = "collapsed" if value is None else "ok"
    return Score(metric, protocol, value, None, 10, 0 if value is not None else 3, 0, status, True, None, task)


def trajectory(name: str, seed: int, **changes: object) -> TrajectoryPlan:
    fields = {
        "id": f"{name}{seed}".ljust(16, "0"),
        "model": "m",
        "model_digest": "d" * 64,
        "dtype": "float32",
        "title": name,
        "method": name,
        "editor": name,
        "regularizer": None,
        "dataset": "facts",
        "order": "shuffled",
        "seed": seed,
        "batch_size": 2,
        "edits": 8,
        "stream_digest": f"s{seed}",
        "wanted": (4, 8),
        "moments": None,
        "evaluations": (QUALITY, GEOMETRY),
    }
    return TrajectoryPlan.model_validate({**fields, **changes})


def base(evaluation: Evaluation, seed: int | None) -> BasePlan:
    return BasePlan(
        model="m",
        model_digest="d" * 64,
        dtype="float32",
        layers=(),
        dataset=None if seed is None else "facts",
        order=None if seed is None else "shuffled",
        seed=seed,
        stream_digest=None if seed is None else f"s{seed}",
        evaluation=evaluation,
        trajectory="memit0",
    )


def shared(plan: TrajectoryPlan | BasePlan, edits: int, evaluation: Evaluation) -> SubjectColumns:
    edited = isinstance(plan, TrajectoryPlan)
    return SubjectColumns(
        trajectory_id=plan.id if edited else None,
        model=plan.model,
        model_digest=plan.model_digest,
        dtype=plan.dtype,
        method=plan.method if edited else None,
        editor=plan.editor if edited else None,
        regularizer=plan.regularizer if edited else None,
        dataset=plan.dataset,
        stream_order=plan.order,
        seed=plan.seed,
        batch_size=plan.batch_size if edited else None,
        edits=edits,
        stream_digest=plan.stream_digest,
        weights_digest="w",
        evaluator=evaluation.kind,
        evaluation_id=evaluation.id,
    )


def put_checkpoint(storage: Storage, plan: TrajectoryPlan, edits: int, *, collapsed: bool = False) -> None:
    storage.write_bytes(checkpoint_path(plan.id, edits, MANIFEST), manifest(plan, edits, collapsed=collapsed).encode())


def manifest(plan: TrajectoryPlan, edits: int, *, collapsed: bool = False) -> Manifest:
    files = dict.fromkeys((WEIGHTS, STATE), "0" * 64)
    return Manifest(plan.id, edits, collapsed, contexts=(("{}",),), scalars={}, files=files)


def put_scores(
    storage: Storage, plan: TrajectoryPlan, edits: int, argmax: float | None, probability: float | None
) -> None:
    scores = [score("score", "argmax", argmax), score("score", "probability", probability)]
    publish_rows(storage, plan.rows_path(edits, QUALITY), encode_rows(shared(plan, edits, QUALITY), scores))
    drift = [score("he_drift", "exact", 0.01 * edits)]
    publish_rows(storage, plan.rows_path(edits, GEOMETRY), encode_rows(shared(plan, edits, GEOMETRY), drift))
