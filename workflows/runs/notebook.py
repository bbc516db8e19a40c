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
from sphere_core.locate.templates import Contexts, check_contexts
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.runs.loading import ChosenMethod, LoadedModel, LoadedStream
from workflows.runs.prepared_edit import prepare_edit
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
    sweep. `on_checkpoint` takes a checkpoint after each batch. Numbers and id are those of `sphere edit` with the same
    inputs and number of torch threads, and of a sweep that takes the same file of second moments; moments that were
    made in memory are named by their numbers. Raises InputError, with the model unchanged, where the method needs
    second moments and there are none, where they are not of the edited sites, where a text is longer than the model's
    positions, and where a file of neurons lacks a request.
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
    prepared = prepare_edit(
        model=model,
        stream=stream,
        method=method,
        batch_size=batch_size,
        moments=moments,
        contexts=None if contexts is None else check_contexts(contexts, where="edit, contexts"),
        threads=torch.get_num_threads(),
        where="edit, moments",
    )
    last: Checkpoint | None = None
    for checkpoint in prepared.run(prepared.spec.id):
        last = checkpoint
        on_checkpoint(checkpoint)
    if last is not None and last.raw:
        # A read-out regularizer: what is scored and exported is not what editing continued with.
        model.editable.load_weights(last.weights, last.attachment)
    return EditedModel(model, stream.requests, 0 if last is None else last.edits, last, prepared.spec, moments)


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
