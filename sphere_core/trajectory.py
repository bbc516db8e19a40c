"""The trajectory: a chain of edit batches on one model, as a generator of checkpoints. Runs without a cluster."""

from collections.abc import Callable, Iterator, Sequence

from sphere_core.checkpoints import Checkpoint, EditorState
from sphere_core.editors.base import Editor
from sphere_core.editors.returned import refuse_faulty_state
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.numerics.placement import all_finite
from sphere_core.requests import EditRequest

__all__ = ["check_against_model", "run_trajectory"]


def check_against_model(hyperparameters: Hyperparameters, model: EditableModel, *, where: str) -> None:
    """Raise InputError if hyperparameters name a layer, a module or a loss layer that the model does not have."""
    model.outline().check(hyperparameters, where=where)


def run_trajectory(
    trajectory_id: str,
    editor: Editor,
    model: EditableModel,
    requests: Sequence[EditRequest],
    *,
    batch_size: int,
    contexts: Contexts,
    resume: Checkpoint | None,
    before_batch: Callable[[EditableModel, int, Sequence[EditRequest], Contexts], None] | None = None,
) -> Iterator[Checkpoint]:
    """Edit `requests` in order, `batch_size` at a time, and yield a checkpoint after every batch.

    Starts from the unedited model, or from `resume`: weights, attachment, editor state and templates are then those of
    the checkpoint, and what follows is bit for bit what an uninterrupted run gives. Tensors of a checkpoint are never
    written to afterwards. A trajectory whose edited weights, or whose attachment, stop being finite ends with a
    checkpoint marked `collapsed`. The model is left edited. `before_batch` is shown the model, the edits so far, the
    batch to come and the templates; it must not change the model.
    """
    model.restore_base()
    state, done = EditorState(), 0
    if resume is not None:
        model.load_weights(resume.live, resume.attachment)
        state, done, contexts = resume.state, resume.edits, resume.contexts
        if resume.collapsed:
            return
    while done < len(requests):
        batch = requests[done : done + batch_size]
        if before_batch is not None:
            before_batch(model, done, batch, contexts)
        state = editor.edit(model, batch, contexts, state)
        refuse_faulty_state(state, editor.edit)
        done += len(batch)
        weights, attached = model.edited_weights(), model.attachment
        collapsed = not all(all_finite(weight) for weight in weights.values())
        collapsed = collapsed or (attached is not None and not attached.finite)
        with model.clock.stage("read_out"):
            view = editor.read_out(model)
        if view is None:
            yield Checkpoint(trajectory_id, done, weights, state, contexts, collapsed, attachment=attached)
        else:
            yield Checkpoint(trajectory_id, done, view, state, contexts, collapsed, raw=weights)
        if collapsed:
            return
