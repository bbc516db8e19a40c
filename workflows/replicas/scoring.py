"""Score one subject with one evaluator: load weights, score, publish rows, return the model."""

import time
from collections.abc import Sequence

from evaluators.base import Evaluator, MissingPrevious, Previous, Scored, Subject
from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.checkpoints import Installed, read_installed
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters.places import Place
from sphere_core.models import EditableModel
from sphere_core.moments.record import SecondMoments
from sphere_core.requests import EditRequest
from workflows.replicas.row_writer import SubjectColumns, encode_rows, encode_table, publish_rows
from workflows.replicas.stage_seconds import stage_seconds
from workflows.replicas.tasks import ScoreTask
from workflows.store.layout import checkpoints_folder, details_path, kept_score_path, task_error_path, timing_path
from workflows.store.plan import TrajectoryPlan
from workflows.store.records import Failure, ScoreTiming

__all__ = ["DamagedCheckpointError", "KeptScores", "places_to_open", "score_subject", "shared_columns"]


class DamagedCheckpointError(RuntimeError):
    """A checkpoint does not match its manifest, or is missing."""


class KeptScores:
    """Results below a sweep's root that every trajectory with equal weights shares."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def read(self, key: str) -> bytes | None:
        """Return the result under a key, or None."""
        try:
            return self._storage.read_bytes(kept_score_path(key))
        except FileNotFoundError:
            return None

    def write(self, key: str, data: bytes) -> None:
        """Store a result; a second call replaces it."""
        self._storage.write_bytes(kept_score_path(key), data)


def places_to_open(task: ScoreTask) -> tuple[Place, ...]:
    """Return the places of the sites that a scoring task requires: the edited ones, or those that the geometry of an
    unedited model uses."""
    if isinstance(task.subject, TrajectoryPlan):
        return task.spec.hyperparameters.places
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

    `requests` is the whole stream; a checkpoint is scored on its edits so far. Reads the checkpoint, and the previous
    one for evaluators that compare with it. Writes tables, then failures of parts, then rows, then the timing; a second
    call with equal numbers changes no row. A part that failed has an error file and rows with status `failed`; the rows
    of other parts are kept. Raises DamagedCheckpointError; RowsConflictError if other numbers are published already;
    and RuntimeError for an evaluator that changes the weights.
    """
    started = time.monotonic()
    model.clock.lap()
    if isinstance(task.subject, TrajectoryPlan):
        with model.clock.stage("read"):
            reads = bool(getattr(evaluator, "reads_state", False))
            installed = _installed(task.subject.id, task.edits, storage, with_state=reads)
            model.load_weights(installed.weights, installed.attachment, installed.tuned)
        edits, scalars, state = task.subject.edits_at(task.edits), installed.scalars, installed.state
        asked = tuple(requests[:edits])
    else:
        edits, asked, scalars, state = 0, tuple(requests), {}, {}
    with model.clock.stage("read"):
        digest, masters, attached = model.weights_digest(), model.masters(), model.attachment
        previous = _previous(task, storage) if evaluator.reads_previous else None
    with model.clock.stage("score"):
        scored = evaluator.score(Subject(model, asked, edits, previous, moments, KeptScores(storage), scalars, state))
    if not model.holds(masters) or model.attachment is not attached:
        raise RuntimeError(f"evaluator '{task.evaluation.kind}' changed the model that it was to score")
    with model.clock.stage("publish"):
        _publish(task, storage, shared_columns(task, digest), scored)
    seconds = round(time.monotonic() - started, 6)
    stages = stage_seconds(model.clock, seconds).as_json()
    timing = ScoreTiming(seconds=seconds, rows=len(scored.rows), **stages)
    timing.write(storage, timing_path(task.evaluation.kind, f"{task.subject_name}-{task.evaluation.id}"))


def _publish(task: ScoreTask, storage: Storage, shared: SubjectColumns, scored: Scored) -> None:
    """Write tables, then failures, then rows: a row file marks its checkpoint as scored.

    Tables without rows were left by a killed evaluator; nothing reads them, and they are replaced.
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
            # Files written without this part.
            redo=(task.rows_path, *tables),
        )
        failure.write(storage, task_error_path(f"{task.name}-{part.part}"))
    publish_rows(storage, task.rows_path, encode_rows(shared, scored.rows))


def _installed(trajectory_id: str, edits: int, storage: Storage, *, with_state: bool) -> Installed:
    try:
        return read_installed(storage.child(checkpoints_folder(trajectory_id)), edits, with_state=with_state)
    except (InputError, FileNotFoundError) as error:
        raise DamagedCheckpointError(str(error)) from error


def _previous(task: ScoreTask, storage: Storage) -> Previous | MissingPrevious | None:
    """Read the previous wanted checkpoint.

    If its manifest exists without weights, it was trimmed on purpose: only the scores against it are lost. If it is
    missing or damaged, it has to be made again together with the scored one, so that the rows equal those of an
    undisturbed sweep: raises DamagedCheckpointError.
    """
    edits = task.previous_edits
    if edits is None:
        return None
    checkpoints = storage.child(checkpoints_folder(str(task.trajectory_id)))
    try:
        return Previous(edits, read_installed(checkpoints, edits).weights)
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
        stream_order=subject.order,
        seed=subject.seed,
        batch_size=edited.batch_size if edited else None,
        edits=task.edits if edited is None else edited.edits_at(task.edits),
        steps=None if edited is None else edited.steps_at(task.edits),
        stream_digest=subject.stream_digest,
        weights_digest=weights_digest,
        evaluator=task.evaluation.kind,
        evaluation_id=task.evaluation.id,
    )
