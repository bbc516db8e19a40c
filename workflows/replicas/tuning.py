"""Run one fine-tuning: read its parent's checkpoint and its texts."""

from collections.abc import Iterator, Sequence

from sphere_core.checkpoints import Checkpoint, read_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel
from sphere_core.requests import EditRequest
from sphere_core.tuning.loop import run_tuning
from workflows.replicas.tasks import TrajectoryTask
from workflows.store.layout import checkpoints_folder
from workflows.store.plan import ParentCheckpoint
from workflows.tuning.texts import tuning_texts

__all__ = ["tuning_chain"]


def tuning_chain(
    task: TrajectoryTask,
    storage: Storage,
    model: EditableModel,
    requests: Sequence[EditRequest],
    resume: Checkpoint | None,
) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a fine-tuning, one per optimiser step, from its parent or from `resume`.

    `requests` is the whole stream. Raises InputError if the parent's checkpoint or the texts cannot be read.
    """
    plan, spec = task.plan, task.spec
    if plan.parent is None or plan.tuning is None or spec.tuning is None:
        raise ValueError(f"{task.name} is not a fine-tuning")
    where = f"trajectory {plan.id}"
    if plan.tuning.identity() != spec.tuning.data:
        raise InputError("the texts are not those the sweep was planned with", where=where, remedy="plan again")
    texts = tuning_texts(plan.tuning, requests[: plan.parent.edits], where=where)
    return run_tuning(
        plan.id,
        model,
        _parent(plan.parent, storage),
        texts,
        spec.tuning.settings,
        places=spec.hyperparameters.places,
        seed=spec.seed,
        resume=resume,
    )


def _parent(parent: ParentCheckpoint, storage: Storage) -> Checkpoint:
    checkpoints = storage.child(checkpoints_folder(parent.trajectory))
    try:
        return read_checkpoint(checkpoints, parent.edits)
    except FileNotFoundError as error:
        raise InputError(
            f"the checkpoint after {parent.edits} edits is gone",
            where=f"trajectory {parent.trajectory}",
            remedy="remove what is left of its folder and run the sweep again: it is made again",
        ) from error
