"""The edits of one trajectory that are left, as a chain of checkpoints."""

from collections.abc import Iterator, Sequence

from sphere_core.checkpoints import Checkpoint
from sphere_core.foundation.storage import Storage
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.preparation import prepare_trajectory
from sphere_core.requests import EditRequest
from workflows.replicas.key_files import KeyKeeper
from workflows.replicas.plugins import planned_plugins
from workflows.replicas.tasks import TrajectoryTask

__all__ = ["editing_chain"]


def editing_chain(
    task: TrajectoryTask,
    storage: Storage,
    model: EditableModel,
    requests: Sequence[EditRequest],
    moments: SecondMoments | None,
    *,
    resume: Checkpoint | None,
    keeper: KeyKeeper | None,
) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a trajectory, one per batch, from the unedited model or from `resume`.

    Raises InputError for moments that do not fit the model.
    """
    plan, spec = task.plan, task.spec
    prepared = prepare_trajectory(
        spec=spec,
        method=resolve_method(spec.method, plugins=planned_plugins(spec.plugins.values(), storage)),
        model=model,
        requests=requests,
        moments=moments,
        where=f"trajectory {plan.id}",
        resume=resume,
    )
    return prepared.run(plan.id, before_batch=None if keeper is None else keeper.note)
