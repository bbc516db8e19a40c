"""The outcomes of a sweep's tasks: how each changes the backlog, what is retried, what fails for good."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from workflows.driver.backlog import Backlog
from workflows.driver.executor import Lost
from workflows.driver.retry_limits import RetryLimits
from workflows.driver.verdicts import Verdicts
from workflows.replicas.tasks import (
    Damaged,
    Done,
    Failed,
    MomentsTask,
    Outcome,
    OutOfMemory,
    ReplicaProgress,
    ScoreTask,
    Stopped,
    StorageFailed,
    Superseded,
    Task,
    TaskKind,
    TrajectoryTask,
)
from workflows.store.compaction import compact_trajectory
from workflows.store.layout import checkpoints_folder
from workflows.store.lease import read_lease
from workflows.store.plan import BasePlan
from workflows.store.records import Failure
from workflows.store.trimming import trim
from workflows.store.weak_starts import weak_start

__all__ = ["SweepWork"]

_LOGGER = logging.getLogger(__name__)


class SweepWork:
    """The tasks of one sweep, for a `WorkerLoop`. Raises StorageError if storage is full or keeps failing."""

    def __init__(self, backlog: Backlog, storage: Storage, verdicts: Verdicts) -> None:
        self._backlog = backlog
        self._storage = storage
        self._verdicts = verdicts
        self._limits = RetryLimits()
        # Models and methods, by their names in tables, whose first edits had too little effect on the model's answers.
        self._warned: set[tuple[str, str]] = set()
        # Trajectories that another run has taken over.
        self.superseded: list[Failure] = []

    def take(self, kinds: Iterable[TaskKind], model: str | None) -> Task | None:
        """Take the next task from the backlog."""
        return self._backlog.take(kinds, model)

    def waiting(self) -> Mapping[TaskKind, int]:
        """Return how many tasks could start now."""
        return self._backlog.waiting()

    def is_editing(self) -> bool:
        """Return whether any trajectory runs or waits."""
        return self._backlog.has_open_trajectories()

    def heard(self, progress: ReplicaProgress) -> None:
        """Note the progress of a trajectory, and its published checkpoints."""
        if progress.editing is not None and progress.task is not None:
            self._backlog.running(progress.editing, progress.edits)
            if self._backlog.published(progress.editing, progress.published):
                self._limits.published(progress.task)

    def finished(self, task: Task, outcome: Outcome) -> None:
        """Process the outcome of a task."""
        match outcome:
            case StorageFailed(reason):
                raise StorageError(reason)
            case OutOfMemory(message):
                _LOGGER.warning("%s ran out of memory: %s", task.name, message)
                self._try_again(task, self._limits.exhausted(task.name, message))
            case Damaged(reason):
                self._remake(task, reason)
            case Failed():
                self._failed(task, outcome)
            case Superseded(by):
                self._superseded_by(task, by)
            case Stopped(published, paused):
                self._stopped(task, published, paused=paused)
            case Done():
                self._done(task, outcome)

    def lost(self, task: Task, lost: Lost, *, begun: bool) -> None:
        """Put a lost task back, unless it has lost too many workers."""
        if isinstance(task, TrajectoryTask):
            # Progress that the worker could not report any more.
            published = checkpoints_in(self._storage.child(checkpoints_folder(task.plan.id)))
            if self._backlog.published(task.plan.id, published):
                self._limits.published(task.name)
            begun = begun or self._took_lease(task)
        self._try_again(task, self._limits.lost(task.name, lost, begun=begun))

    def _took_lease(self, task: TrajectoryTask) -> bool:
        """Return whether a worker began with an attempt, according to its lease.

        Several machines may fail at the same time, and a task that was passed from one to the next is not the cause.
        """
        standing = read_lease(self._storage, task.plan.id)
        return standing is not None and standing.attempt >= task.attempt

    def _done(self, task: Task, done: Done) -> None:
        if isinstance(task, TrajectoryTask):
            self._backlog.published(task.plan.id, done.published, collapsed=done.collapsed)
            self._ended(task.plan.id, failed=False)
        elif isinstance(task, MomentsTask):
            self._backlog.moments_done(task)
        elif isinstance(task, ScoreTask):
            self._backlog.scored(task)
            self._look_at_start(task)
            self._follow_up(task.trajectory_id)

    def _look_at_start(self, task: ScoreTask) -> None:
        """Warn once of a model and method whose first scored edits had too little effect on the model's answers."""
        plan = task.subject
        if isinstance(plan, BasePlan) or task.edits != min(plan.wanted) or (plan.model, plan.title) in self._warned:
            return
        warning = weak_start(self._storage, plan)
        if warning is not None:
            self._warned.add((plan.model, plan.title))
            _LOGGER.warning("%s", warning)

    def _stopped(self, task: Task, published: tuple[int, ...], *, paused: bool) -> None:
        if isinstance(task, TrajectoryTask):
            self._backlog.published(task.plan.id, published)
        # It has published a checkpoint where it stopped, even if that one is not scored.
        self._limits.published(task.name)
        if not paused:
            _LOGGER.info("%s stopped at a checkpoint; it is resumed by another worker", task.name)
        self._try_again(task, paused=paused)

    def _superseded_by(self, task: Task, by: str) -> None:
        if not isinstance(task, TrajectoryTask):
            raise RuntimeError(f"{task.name}: only trajectories have a lease that another run can take")
        self._ended(task.plan.id, failed=False)
        if self._backlog.stopped_at(task.plan.id) is None:
            message = f"taken over by {by}: another run works on this sweep"
            _LOGGER.error("%s was %s", task.name, message)
            self.superseded.append(Failure(task=task.name, error="Superseded", message=message))

    def _failed(self, task: Task, failed: Failed) -> None:
        _LOGGER.error("%s failed: %s: %s", task.name, failed.error, failed.message)
        if isinstance(task, TrajectoryTask):
            self._ended(task.plan.id, failed=True)
        else:
            self._backlog.task_failed(task)

    def _remake(self, task: Task, reason: str) -> None:
        """Queue a damaged checkpoint to be made again, unless that happens repeatedly."""
        _LOGGER.warning("%s: damaged checkpoint, to be made again: %s", task.name, reason.splitlines()[0])
        failed = self._limits.damaged(task.name, reason)
        if failed is None and isinstance(task, ScoreTask):
            self._backlog.damaged(task)
        else:
            self._give_up(task, failed or Failed("DamagedCheckpoint", reason, ""))

    def _try_again(self, task: Task, failed: Failed | None = None, *, paused: bool = False) -> None:
        """Put a task back, or record its failure; a trajectory that a watchdog has stopped has ended."""
        if isinstance(task, TrajectoryTask) and self._backlog.stopped_at(task.plan.id) is not None:
            self._ended(task.plan.id, failed=False)
        elif failed is None:
            self._backlog.put_back(task, paused=paused)
        else:
            self._give_up(task, failed)

    def _give_up(self, task: Task, failed: Failed) -> None:
        """Record a failure that no replica has recorded."""
        if isinstance(task, TrajectoryTask):
            failed = replace(failed, edits=self._backlog.edits_so_far(task.plan.id))
        failed.record(task).write(self._storage, task.error_path)
        self._failed(task, failed)

    def _ended(self, trajectory_id: str, *, failed: bool) -> None:
        self._backlog.ended(trajectory_id, failed=failed)
        self._follow_up(trajectory_id)

    def _follow_up(self, trajectory_id: str | None) -> None:
        """Apply the watchdog to the scores so far, trim checkpoints that nothing requires, compact finished rows."""
        if trajectory_id is not None:
            self._verdicts.judge(trajectory_id)
            self._backlog.release(trajectory_id)
            for edits in self._backlog.to_trim(trajectory_id):
                trim(self._storage, trajectory_id, edits)
            tracked = self._backlog.tracked[trajectory_id]
            if scored := tracked.finished_checkpoints():
                compact_trajectory(self._storage, tracked.plan, scored)
