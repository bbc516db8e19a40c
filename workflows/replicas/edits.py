"""The edits of one trajectory that are left, as a chain of checkpoints."""

from collections.abc import Iterator, Sequence

from sphere_core.checkpoints import Checkpoint
from sphere_core.costs import place
from sphere_core.foundation.storage import Storage
from sphere_core.locate.contexts import sample_contexts
from sphere_core.locate.templates import Contexts, ContextSettings
from sphere_core.methods import resolve_method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.requests import EditRequest
from sphere_core.trajectory import run_trajectory
from sphere_core.trajectory_spec import TrajectorySpec
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
    method = resolve_method(spec.method, plugins=planned_plugins(spec.plugins.values(), storage))
    if moments is not None:
        check_moments(
            moments,
            model.open_sites(spec.hyperparameters.places),
            where=f"trajectory {plan.id}",
            model_digest=spec.model_digest,
            gradients=method.needs_gradients(spec.hyperparameters),
        )
    contexts = resume.contexts if resume is not None else _starting_contexts(spec, model)
    batch_size = spec.batch_size
    placement = place(
        model,
        method,
        spec.hyperparameters,
        requests,
        batch_size=batch_size,
        contexts=contexts,
        moments=moments,
    )
    return run_trajectory(
        plan.id,
        method.build(spec.hyperparameters, moments, placement),
        model,
        requests,
        batch_size=batch_size,
        contexts=contexts,
        resume=resume,
        before_batch=None if keeper is None else keeper.note,
    )


def _starting_contexts(spec: TrajectorySpec, model: EditableModel) -> Contexts:
    """Return the template groups a trajectory begins with: those given, else sampled from the unedited model."""
    groups = spec.contexts.get("groups")
    if groups is not None:
        return tuple(tuple(group) for group in groups)
    return sample_contexts(model, ContextSettings(**spec.contexts["sampled"]), spec.seed)
