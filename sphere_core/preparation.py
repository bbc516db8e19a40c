"""A trajectory made ready to run: second moments checked against the edited sites, context templates, and an editor
that is placed on the model's devices."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sphere_core.checkpoints import Checkpoint
from sphere_core.costs import place
from sphere_core.editors.base import Editor
from sphere_core.locate.contexts import sample_contexts
from sphere_core.locate.templates import Contexts, GivenContexts
from sphere_core.methods import Method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.requests import EditRequest
from sphere_core.trajectory import run_trajectory
from sphere_core.trajectory_spec import TrajectorySpec

__all__ = ["PreparedTrajectory", "prepare_trajectory"]


@dataclass(frozen=True)
class PreparedTrajectory:
    """A specification with what carries it out: the model, the requests, the editor, and the context templates.

    `resume` is the checkpoint that it continues from; without one it starts from the unedited model.
    """

    spec: TrajectorySpec
    model: EditableModel
    requests: Sequence[EditRequest]
    editor: Editor
    contexts: Contexts
    resume: Checkpoint | None

    def run(
        self,
        trajectory_id: str,
        *,
        before_batch: Callable[[EditableModel, int, Sequence[EditRequest], Contexts], None] | None = None,
    ) -> Iterator[Checkpoint]:
        """Yield a checkpoint after every batch, as `run_trajectory` does; `trajectory_id` is what they are named by."""
        return run_trajectory(
            trajectory_id,
            self.editor,
            self.model,
            self.requests,
            batch_size=self.spec.batch_size,
            contexts=self.contexts,
            resume=self.resume,
            before_batch=before_batch,
        )


def prepare_trajectory(
    *,
    spec: TrajectorySpec,
    method: Method,
    model: EditableModel,
    requests: Sequence[EditRequest],
    moments: SecondMoments | None,
    where: str,
    resume: Checkpoint | None = None,
) -> PreparedTrajectory:
    """Check second moments, restore the unedited weights, sample the templates if none are given, build the editor.

    Raises InputError, with the model unchanged, for moments that are not of the edited sites; `where` is their place.
    """
    if moments is not None:
        check_moments(
            moments,
            model.open_sites(spec.hyperparameters.places),
            where=where,
            model_digest=spec.model_digest,
            gradients=method.needs_gradients(spec.hyperparameters),
        )
    model.restore_base()
    contexts = resume.contexts if resume is not None else _starting_contexts(spec, model)
    placement = place(
        model,
        method,
        spec.hyperparameters,
        requests,
        batch_size=spec.batch_size,
        contexts=contexts,
        moments=moments,
    )
    editor = method.build(spec.hyperparameters, moments, placement)
    return PreparedTrajectory(spec, model, requests, editor, contexts, resume)


def _starting_contexts(spec: TrajectorySpec, model: EditableModel) -> Contexts:
    """Return the template groups a trajectory begins with: those given, else sampled from the unedited model."""
    if isinstance(spec.contexts, GivenContexts):
        return spec.contexts.groups
    return sample_contexts(model, spec.contexts.sampled, spec.seed)
