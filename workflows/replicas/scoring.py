"""Scoring one subject with one evaluator: install weights, score, publish rows, give the model back."""

import time
from collections.abc import Mapping, Sequence

import torch

from evaluators.base import Evaluator, MissingPrevious, Previous, Scored, Subject
from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.checkpoints import read_checkpoint
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest
from workflows.replicas.row_writer import SubjectColumns, encode_rows, encode_table, publish_rows
from workflows.replicas.tasks import ScoreTask
from workflows.store.layout import checkpoints_folder, details_path, kept_score_path, task_error_path, timing_path
from workflows.store.plan import TrajectoryPlan
from workflows.store.records import Failure, ScoreTiming

__all__ = ["DamagedCheckpointError", "KeptScores", "layers_to_open", "score_subject", "shared_columns"]


class DamagedCheckpointError(RuntimeError):
    """A checkpoint is not what its manifest says, or is gone."""


class KeptScores:
    """Results below a sweep's root that every trajectory with equal weights shares."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, key: str) -> bytes | None:
        """Return what is kept under a key, or None."""
        try:
            return self._storage.read_bytes(kept_score_path(key))
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes) -> None:
        """Keep a result."""
        self._storage.write_bytes(kept_score_path(key), data)


def layers_to_open(task: ScoreTask) -> tuple[int, ...]:
    """Return the layers whose sites a scoring task needs: the edited ones, or those a base's geometry looks at."""
    if isinstance(task.subject, TrajectoryPlan):
        return task.spec.hyperparameters.layers
    return task.subject.layers


def score_subject(
    task: ScoreTask,
    model: EditableModel,
    requests: Sequence[EditRequest],
    evaluator: Evaluator,
    storage: Storage,
    moments: SecondMoments | None = None,
) -> None:
    """Score a checkpoint or the unedited model and publish its rows.

    `requests` is the whole stream; a checkpoint is asked about the edits it has been through. A part that failed
    leaves its error and traceback among the errors, and rows that say `failed`; the other parts' rows stand. Raises
    DamagedCheckpointError, and RuntimeError for an evaluator that leaves other weights behind than it found.
    """
    started = time.monotonic()
    if isinstance(task.subject, TrajectoryPlan):
        model.load_weights(_weights(task.subject.id, task.edits, storage))
        asked = tuple(requests[: task.edits])
    else:
        asked = tuple(requests)
    digest = model.weights_digest()
    previous = _previous(task, storage) if evaluator.reads_previous else None
    scored = evaluator.score(Subject(model, asked, task.edits, previous, moments, KeptScores(storage)))
    if model.weights_digest() != digest:
        raise RuntimeError(f"evaluator '{task.evaluation.kind}' changed the weights it was to score")
    _publish(task, storage, shared_columns(task, digest), scored)
    timing = ScoreTiming(seconds=round(time.monotonic() - started, 6), rows=len(scored.rows))
    timing.write(storage, timing_path(task.evaluation.kind, f"{task.subject_name}-{task.evaluation.id}"))


def _publish(task: ScoreTask, storage: Storage, shared: SubjectColumns, scored: Scored) -> None:
    """Write tables, then failures, then rows: row files are what says that a checkpoint is scored.

    Tables without rows are what a killed evaluator left: nobody counts on them, and they are written anew.
    """
    is_scored = storage.exists(task.rows_path)
    tables = {details_path(name, task.subject_name, task.evaluation.id): table for name, table in scored.tables.items()}
    for path, table in tables.items():
        data = encode_table(shared, table)
        if is_scored:
            publish_rows(storage, path, data)
        else:
            storage.write_bytes(path, data)
    for part in scored.failures:
        failure = Failure(
            task=f"{task.name} {part.part}",
            error=part.error,
            message=part.message,
            edits=task.edits,
            traceback=part.traceback,
            # What stands without this part.
            redo=(task.rows_path, *tables),
        )
        failure.write(storage, task_error_path(f"{task.name}-{part.part}"))
    publish_rows(storage, task.rows_path, encode_rows(shared, scored.rows))


def _weights(trajectory_id: str, edits: int, storage: Storage) -> Mapping[str, torch.Tensor]:
    try:
        return read_checkpoint(storage.child(checkpoints_folder(trajectory_id)), edits).weights
    except (InputError, FileNotFoundError) as error:
        raise DamagedCheckpointError(str(error)) from error


def _previous(task: ScoreTask, storage: Storage) -> Previous | MissingPrevious | None:
    """Read the wanted checkpoint before.

    One whose manifest stands without its weights has been given up on purpose: only what is scored against it is
    lost. One that is gone or damaged is to be made again with the one that is scored, so that the rows are those of a
    sweep that nothing has happened to: raises DamagedCheckpointError.
    """
    edits = task.previous_edits
    if edits is None:
        return None
    checkpoints = storage.child(checkpoints_folder(str(task.trajectory_id)))
    try:
        return Previous(edits, read_checkpoint(checkpoints, edits).weights)
    except (InputError, FileNotFoundError) as error:
        reason = f"the weights of the checkpoint before, after {edits} edits, "
        if isinstance(error, FileNotFoundError) and edits in checkpoints_in(checkpoints):
            return MissingPrevious(edits, reason + "are no longer kept")
        raise DamagedCheckpointError(f"{reason}cannot be read: {error}") from error


def shared_columns(task: ScoreTask, weights_digest: str) -> SubjectColumns:
    """Return the columns that all rows of a task share."""
    subject = task.subject
    edited = subject if isinstance(subject, TrajectoryPlan) else None
    return SubjectColumns(
        trajectory_id=edited.id if edited else None,
        model=subject.model,
        model_digest=subject.model_digest,
        dtype=subject.dtype,
        method=edited.method if edited else None,
        editor=edited.editor if edited else None,
        regularizer=edited.regularizer if edited else None,
        dataset=subject.dataset,
        order=subject.order,
        seed=subject.seed,
        batch_size=edited.batch_size if edited else None,
        edits=task.edits,
        stream_digest=subject.stream_digest,
        weights_digest=weights_digest,
        evaluator=task.evaluation.kind,
        evaluation_id=task.evaluation.id,
    )
