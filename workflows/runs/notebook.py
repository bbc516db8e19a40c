"""One trajectory in memory, and scores of what came out: what a notebook does without a sweep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from evaluators.base import Subject
from evaluators.registry import build_evaluator, read_evaluator_settings
from sphere_core.checkpoints import Checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.locate.contexts import sample_contexts
from sphere_core.locate.templates import Contexts, ContextSettings
from sphere_core.moments.record import SecondMoments, check_moments
from sphere_core.requests import EditRequest, requests_digest
from sphere_core.streams.lengths import refuse_long
from sphere_core.streams.model_room import room_of_model
from sphere_core.trajectory import run_trajectory
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.runs.loading import ChosenMethod, LoadedModel, LoadedStream
from workflows.store.row_schema import ROW_SCHEMA

__all__ = ["SCORE_SCHEMA", "EditedModel", "edit", "score", "unedited"]

# The columns of a row file that say what was measured; who was scored is known to the caller.
SCORE_SCHEMA = pa.schema(
    [
        ROW_SCHEMA.field(name)
        for name in (
            *("edits", "weights_digest", "evaluator", "metric", "protocol", "site", "task"),
            *("value", "stderr", "ci_low", "ci_high", "n", "nonfinite", "tied", "status", "reason", "higher_is_better"),
        )
    ]
)


@dataclass(frozen=True)
class EditedModel:
    """A model after the first `edits` of `requests`, with its last checkpoint and what that is a checkpoint of.

    Both are None for the unedited model. `model` is the object that was edited, not a copy: the next trajectory on it
    restores the unedited weights first.
    """

    model: LoadedModel
    requests: tuple[EditRequest, ...]
    edits: int
    checkpoint: Checkpoint | None
    spec: TrajectorySpec | None
    moments: SecondMoments | None

    @property
    def collapsed(self) -> bool:
        """Whether an edited weight is no longer finite: the trajectory ended there."""
        return self.checkpoint is not None and self.checkpoint.collapsed


def edit(
    *,
    model: LoadedModel,
    stream: LoadedStream,
    method: ChosenMethod,
    batch_size: int,
    moments: SecondMoments | None = None,
    contexts: Contexts | None = None,
    on_checkpoint: Callable[[Checkpoint], None] = lambda checkpoint: None,
) -> EditedModel:
    """Edit a stream into a model, `batch_size` requests at a time, from the unedited weights.

    `contexts` are template groups; by default they are sampled from the unedited model with the stream's seed, as in a
    sweep. `on_checkpoint` takes a checkpoint after each batch. The numbers are those of `sphere edit` and of a sweep
    at the same number of torch threads. Raises InputError, with the model unchanged, where the method needs second
    moments and there are none, or where they are not of the edited sites.
    """
    hyperparameters = method.hyperparameters
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}", where="edit", remedy="at least 1")
    if moments is None and method.method.needs_moments(hyperparameters):
        raise InputError(
            f"method '{method.method.name}' needs second moments",
            where="edit",
            remedy="moments=build_moments(...) or moments=load_moments(...)",
        )
    editable = model.editable
    if moments is not None:
        sites = editable.open_sites(hyperparameters.places)
        check_moments(
            moments,
            sites,
            where="edit, moments",
            model_digest=editable.base_digest,
            gradients=method.method.needs_gradients(hyperparameters),
        )
    in_contexts = method.method.edits_in_contexts
    sampling = ContextSettings().model_dump(mode="json") if in_contexts and contexts is None else None
    room = room_of_model(editable, groups=contexts if in_contexts else None, sampled=sampling)
    if room is not None:
        refuse_long(stream.requests, room, source=stream.spec.source)
    editor = method.method.build(hyperparameters, moments)
    editable.restore_base()
    spec = _spec(model, stream, method, batch_size, moments, contexts)
    sampled = contexts or sample_contexts(editable, ContextSettings(), stream.seed)
    last: Checkpoint | None = None
    chain = run_trajectory(
        spec.id, editor, editable, stream.requests, batch_size=batch_size, contexts=sampled, resume=None
    )
    for checkpoint in chain:
        last = checkpoint
        on_checkpoint(checkpoint)
    if last is not None and last.raw:
        # A read-out regularizer: what is scored and exported is not what editing continued with.
        editable.load_weights(last.weights, last.attachment)
    return EditedModel(model, stream.requests, 0 if last is None else last.edits, last, spec, moments)


def unedited(*, model: LoadedModel, stream: LoadedStream, moments: SecondMoments | None = None) -> EditedModel:
    """Restore a model's unedited weights and return it with the stream that it is scored on."""
    model.editable.restore_base()
    return EditedModel(model, stream.requests, 0, None, None, moments)


def score(*, edited: EditedModel, evaluators: Mapping[str, Mapping[str, Any]]) -> pa.Table:
    """Return the scores of an edited model (or of `unedited`), one row per metric, with the columns of SCORE_SCHEMA.

    `evaluators` is what a sweep file has under that key: `{"edit_quality": {}, "general": {"tasks": ["factworld"]}}`.
    An unedited model is scored on its whole stream. The model's weights are left as they are. Raises InputError for
    an unknown evaluator or setting, before anything is scored.
    """
    built = {
        kind: build_evaluator(read_evaluator_settings({"kind": kind, **settings}, where=f"score, evaluator '{kind}'"))
        for kind, settings in evaluators.items()
    }
    requests = edited.requests[: edited.edits] if edited.edits else edited.requests
    subject = Subject(edited.model.editable, requests, edited.edits, moments=edited.moments)
    shared = {"edits": edited.edits, "weights_digest": subject.model.weights_digest()}
    rows = [
        {**shared, "evaluator": kind, **{name: getattr(row, name) for name in SCORE_SCHEMA.names if hasattr(row, name)}}
        for kind, evaluator in built.items()
        for row in evaluator.score(subject).rows
    ]
    return pa.Table.from_pylist(rows, schema=SCORE_SCHEMA)


def _spec(
    model: LoadedModel,
    stream: LoadedStream,
    method: ChosenMethod,
    batch_size: int,
    moments: SecondMoments | None,
    contexts: Contexts | None,
) -> TrajectorySpec:
    sampled = {"sampled": ContextSettings().model_dump(mode="json")}
    return TrajectorySpec(
        model=model.source,
        model_digest=model.editable.base_digest,
        revision=model.revision,
        remote_code=model.remote_code,
        family=model.editable.family.carried,
        dtype=model.dtype,
        method=method.method.name,
        revisions=method.method.revisions(method.hyperparameters),
        plugins=method.method.code,
        hyperparameters=method.hyperparameters,
        stream=stream.spec,
        stream_digest=requests_digest(stream.requests),
        batch_size=batch_size,
        seed=stream.seed,
        contexts=sampled if contexts is None else {"groups": [list(group) for group in contexts]},
        moments={} if moments is None else {"digest": moments.digest},
        threads=torch.get_num_threads(),
    )
