"""One trajectory outside a sweep, made ready: what `sphere edit` and the Python API's `edit` have in common."""

from collections.abc import Callable
from pathlib import Path

from sphere_core.checkpoints import Checkpoint
from sphere_core.editors.memory.neuron_file import require_cases, require_place
from sphere_core.locate.templates import Contexts, ContextSettings, contexts_spec
from sphere_core.methods import Method
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.moments.spec import MomentsSpec
from sphere_core.numerics.tensor_digest import tensors_digest
from sphere_core.plugins.found import NO_PLUGINS, Plugins
from sphere_core.preparation import PreparedTrajectory, prepare_trajectory
from sphere_core.requests import requests_digest
from sphere_core.streams.lengths import ReadingRoom, refuse_long
from sphere_core.streams.model_room import room_of_model
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.runs.loading import ChosenMethod, LoadedModel, LoadedStream
from workflows.sweeps.plugin_inputs import outside_inputs, reader_code

__all__ = ["prepare_edit", "room_of_edit"]


def prepare_edit(
    *,
    model: LoadedModel,
    stream: LoadedStream,
    method: ChosenMethod,
    batch_size: int,
    moments: SecondMoments | None,
    contexts: Contexts | None,
    threads: int,
    where: str,
    plugins: Plugins = NO_PLUGINS,
    resume: Callable[[TrajectorySpec], Checkpoint | None] = lambda spec: None,
) -> PreparedTrajectory:
    """Check a trajectory's inputs against each other, and return it ready to run; the model is then unedited.

    Templates are sampled where `contexts` is None. `where` is the place of the second moments, `resume` finds the
    checkpoint that the trajectory of a specification continues from. Raises InputError, with the model unchanged, for
    a text longer than the model's positions, a request that a file of neurons has no unit for, and moments that are
    not of the edited sites.
    """
    editable, hyperparameters = model.editable, method.hyperparameters
    room = room_of_edit(editable, method.method, contexts)
    if room is not None:
        refuse_long(stream.requests, room, source=stream.spec.source)
    if hyperparameters.neurons_file is not None:
        path, config = Path(hyperparameters.neurons_file), editable.network.config.get_text_config()
        require_place(path, layers=config.num_hidden_layers, width=config.hidden_size)
        require_cases(path, [request.case_id for request in stream.requests])
    spec = TrajectorySpec(
        model=model.source,
        model_digest=editable.base_digest,
        revision=model.revision,
        remote_code=model.remote_code,
        family=editable.family.carried,
        dtype=model.dtype,
        method=method.method.name,
        revisions=method.method.revisions(hyperparameters),
        plugins={**method.method.code, **reader_code(outside_inputs(stream.spec.dataset, editable.family, plugins))},
        hyperparameters=hyperparameters,
        stream=stream.spec,
        stream_digest=requests_digest(stream.requests),
        batch_size=batch_size,
        seed=stream.seed,
        contexts=contexts_spec(contexts),
        moments=_moments_spec(moments, hyperparameters.layers, where),
        threads=threads,
    )
    return prepare_trajectory(
        spec=spec,
        method=method.method,
        model=editable,
        requests=stream.requests,
        moments=moments,
        where=where,
        resume=resume(spec),
    )


def room_of_edit(model: EditableModel, method: Method, contexts: Contexts | None) -> ReadingRoom | None:
    """Return what a model can read at once when a method edits it, or None if its config says nothing of positions.

    Templates are sampled where `contexts` is None.
    """
    in_contexts = method.edits_in_contexts
    sampled = ContextSettings() if in_contexts and contexts is None else None
    return room_of_model(model, groups=contexts if in_contexts else None, sampled=sampled)


def _moments_spec(moments: SecondMoments | None, layers: tuple[int, ...], where: str) -> MomentsSpec:
    """Return how second moments are named: by the digest of their file, or of the numbers of those made in memory."""
    if moments is None:
        return MomentsSpec()
    if moments.files is None:
        return MomentsSpec(digest=tensors_digest(moments.tensors()))
    return MomentsSpec(file_digest=moments.files.digest(layers, where=where))
