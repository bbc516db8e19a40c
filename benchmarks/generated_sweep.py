"""Parts of sweeps that benchmarks generate in the real schema, without editing anything."""

from sphere_core.checkpoint_files import MANIFEST, STATE, WEIGHTS, Manifest
from sphere_core.foundation.storage import Storage
from workflows.replicas.row_writer import SubjectColumns
from workflows.store.layout import checkpoint_path
from workflows.store.plan import Evaluation, TrajectoryPlan

__all__ = ["METHODS", "put_checkpoint", "subject", "trajectory"]

METHODS = ("memit", "memit+sphere", "alphaedit", "alphaedit+sphere", "memit+revive")


def trajectory(place: int, wanted: tuple[int, ...], evaluations: tuple[Evaluation, ...]) -> TrajectoryPlan:
    """Return the plan of trajectory number `place`: methods in turn, one seed more after each round."""
    method, seed = METHODS[place % len(METHODS)], place // len(METHODS)
    return TrajectoryPlan(
        id=f"{place:016x}",
        model="m",
        model_digest="d" * 64,
        dtype="float32",
        title=method,
        method=method,
        editor=method.partition("+")[0],
        regularizer=method.partition("+")[2] or None,
        dataset="multi_counterfact",
        order="shuffled",
        seed=seed,
        batch_size=100,
        edits=wanted[-1],
        stream_digest=f"s{seed}",
        wanted=wanted,
        moments=None,
        evaluations=evaluations,
    )


def subject(plan: TrajectoryPlan, edits: int, evaluation: Evaluation) -> SubjectColumns:
    """Return the columns that all rows of one evaluation of a checkpoint share."""
    return SubjectColumns(
        trajectory_id=plan.id,
        model=plan.model,
        model_digest=plan.model_digest,
        dtype=plan.dtype,
        method=plan.method,
        editor=plan.editor,
        regularizer=plan.regularizer,
        dataset=plan.dataset,
        stream_order=plan.order,
        seed=plan.seed,
        batch_size=plan.batch_size,
        edits=edits,
        stream_digest=plan.stream_digest,
        weights_digest="w" * 64,
        evaluator=evaluation.kind,
        evaluation_id=evaluation.id,
    )


def put_checkpoint(storage: Storage, plan: TrajectoryPlan, edits: int) -> None:
    """Write the manifest of a checkpoint whose tensors are gone; writes one file."""
    files = dict.fromkeys((WEIGHTS, STATE), "0" * 64)
    manifest = Manifest(plan.id, edits, False, contexts=(("{}",),), scalars={}, files=files)
    storage.write_bytes(checkpoint_path(plan.id, edits, MANIFEST), manifest.encode())
