"""The driver: a pull loop that gives free workers the next piece of work until nothing is left.

It holds no durable state: what it knows was read from files, or heard from replicas that wrote files first.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from sphere_core.checkpoint_files import checkpoints_in
from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from workflows.driver.backlog import Backlog
from workflows.driver.display import Display, View
from workflows.driver.executor import Event, Executor, ExecutorError, Finished, Leaving, Lost, Ready, Worker
from workflows.driver.retry_limits import RetryLimits
from workflows.driver.time_left import TimeLeft
from workflows.driver.verdicts import judge, trim_scored
from workflows.driver.workers import Workers, wind_down
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
    TrajectoryTask,
)
from workflows.store.layout import checkpoints_folder
from workflows.store.lease import read_lease
from workflows.store.records import Failure
from workflows.store.state import derive_state

__all__ = ["Driver", "SweepResult"]

_TICK_SECONDS = 0.5
# How often workers are asked what they do.
_ASK_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """How a run ended: complete, stopped, what failed on the way, and why storage gave out if it did."""

    complete: bool
    stopped: bool
    failures: tuple[Failure, ...]
    storage_fault: str | None = None


class Driver:
    """Runs the open work of one backlog on one executor."""

    def __init__(
        self,
        backlog: Backlog,
        executor: Executor,
        storage: Storage,
        display: Display,
        *,
        evaluators: int,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """`guard` is called at every step; what it raises ends the run as it stands."""
        self._backlog = backlog
        self._executor = executor
        self._storage = storage
        self._display = display
        self._guard = guard
        self._workers = Workers(executor, evaluators=evaluators)
        self._time_left = TimeLeft()
        self._limits = RetryLimits()
        self._storage_fault: str | None = None
        self._asked = -_ASK_SECONDS
        self._superseded: list[Failure] = []
        self._interrupted = False
        # What has happened and is not dealt with yet; an error on the way leaves the rest.
        self._events: deque[Event] = deque()

    def interrupt(self) -> None:
        """Have the run stop at its next step; sets a flag and does nothing else."""
        self._interrupted = True

    def run(self) -> SweepResult:
        """Work until nothing is left that can be done.

        An interrupt publishes checkpoints first and stops, and so does storage that gives out, as far as it lets them.
        Raises ExecutorError where no workers are to be had.
        """
        try:
            # A driver that was killed may have left scores without a verdict.
            for trajectory_id in self._backlog.tracked if self._backlog.sweep.plan.watchdog is not None else ():
                if not self._interrupted:
                    judge(self._backlog, self._storage, trajectory_id)
            while self._storage_fault is None and not self._interrupted:
                self._guard()
                self._backlog.give_up_blocked()
                self._assign()
                if not self._workers.busy and not any(self._backlog.waiting().values()):
                    break
                self._workers.grow(self._backlog.waiting(), editing=self._backlog.has_open_trajectories())
                self._events.extend(self._executor.wait(_TICK_SECONDS))
                self._follow()
        except KeyboardInterrupt:
            if self._interrupted:
                raise
            self._interrupted = True
        except StorageError as error:
            self._storage_fault = str(error)
        if self._interrupted:
            _LOGGER.warning("stopping: batches under way are ended and published; the same signal again ends at once")
            wind_down(self._executor, self._workers, self._events, self._backlog.sweep.spec.resources.grace_seconds)
            return self._result(stopped=True)
        if self._storage_fault is not None:
            _LOGGER.error("storage gives out; what runs is asked to stop: %s", self._storage_fault)
            wind_down(self._executor, self._workers, self._events, self._backlog.sweep.spec.resources.grace_seconds)
            return SweepResult(False, False, tuple(self._superseded), self._storage_fault)
        return self._result(stopped=False)

    def _result(self, *, stopped: bool) -> SweepResult:
        state = derive_state(self._storage, self._backlog.sweep.plan)
        failures = (*state.failures, *self._superseded)
        return SweepResult(state.is_complete, stopped, tuple(failures))

    def _assign(self) -> None:
        for worker in list(self._workers.idle):
            task = self._backlog.take(self._workers.preference(worker), self._workers.model_of(worker))
            if task is not None:
                self._time_left.begin(worker, task)
                self._workers.assign(worker, task)

    def _follow(self) -> None:
        happened = bool(self._events)
        while self._events:
            match event := self._events.popleft():
                case Ready(worker):
                    self._limits.born()
                    self._workers.ready(worker)
                case Finished(worker, task, outcome):
                    self._time_left.end(worker)
                    self._workers.finished(worker, spent=isinstance(outcome, Stopped | OutOfMemory))
                    self._settle(task, outcome)
                case Lost():
                    self._lose(event)
                case Leaving(worker):
                    if self._workers.let_go(worker):
                        _LOGGER.warning("the machine of worker %d is about to go", worker.number)
        if happened and self._storage_fault is None and not self._interrupted:
            # Before anything else: an idle worker waits for this.
            self._assign()
        now = time.monotonic()
        if now - self._asked < _ASK_SECONDS:
            return
        self._asked = now
        doing = self._executor.progress()
        for progress in doing.values():
            self._hear(progress)
        self._show(doing)

    def listen(self, progress: ReplicaProgress) -> None:
        """Take in the words of a replica that works inside `wait`."""
        self._hear(progress)
        self._show(dict.fromkeys(self._workers.busy, progress))

    def _show(self, doing: dict[Worker, ReplicaProgress]) -> None:
        counts = self._backlog.counts()
        left = self._time_left.seconds_left(counts, len(self._workers.busy))
        view = View(counts, self._workers.stage, self._time_left.edits_per_second(counts), left, doing)
        self._display.update(view)

    def _hear(self, progress: ReplicaProgress) -> None:
        """Take in what a replica says: how far its trajectory is, and which checkpoints stand."""
        if progress.editing is None or progress.task is None:
            return
        self._backlog.running(progress.editing, progress.edits)
        if self._backlog.published(progress.editing, progress.published):
            self._limits.published(progress.task)

    def _settle(self, task: Task, outcome: Outcome) -> None:
        if isinstance(outcome, Damaged):
            self._remake(task, outcome)
        elif isinstance(outcome, OutOfMemory):
            _LOGGER.warning("%s ran out of memory: %s", task.name, outcome.message)
            self._try_again(task, self._limits.exhausted(task.name, outcome.message))
        elif isinstance(outcome, StorageFailed):
            self._storage_fault = outcome.reason
        elif isinstance(task, TrajectoryTask):
            self._settle_trajectory(task, outcome)
        elif isinstance(outcome, Failed):
            self._backlog.task_failed(task)
        elif isinstance(task, MomentsTask):
            self._backlog.moments_done(task)
        elif isinstance(task, ScoreTask):
            self._backlog.scored(task)
            if task.trajectory_id is not None:
                judge(self._backlog, self._storage, task.trajectory_id)
                trim_scored(self._backlog, self._storage, task.trajectory_id)
        if isinstance(outcome, Failed):
            _LOGGER.error("%s failed: %s: %s", task.name, outcome.error, outcome.message)

    def _settle_trajectory(self, task: TrajectoryTask, outcome: Outcome) -> None:
        if isinstance(outcome, Done | Stopped):
            collapsed = isinstance(outcome, Done) and outcome.collapsed
            self._backlog.published(task.plan.id, outcome.published, collapsed=collapsed)
        if isinstance(outcome, Stopped):
            # It has published where it stopped, be it a checkpoint that nobody scores.
            self._limits.published(task.name)
            _LOGGER.info("%s stopped at a checkpoint; it goes on elsewhere", task.name)
            self._try_again(task)
            return
        self._backlog.ended(task.plan.id, failed=isinstance(outcome, Failed))
        judge(self._backlog, self._storage, task.plan.id)
        trim_scored(self._backlog, self._storage, task.plan.id)
        if isinstance(outcome, Superseded) and self._backlog.tracked[task.plan.id].stopped_at is None:
            self._note_superseded(task, outcome)

    def _remake(self, task: Task, outcome: Damaged) -> None:
        """Have a damaged checkpoint made again, unless that keeps happening."""
        _LOGGER.warning("%s: damaged checkpoint, to be made again: %s", task.name, outcome.reason.splitlines()[0])
        failed = self._limits.damaged(task.name, outcome.reason)
        if failed is None and isinstance(task, ScoreTask):
            self._backlog.damaged(task)
            return
        self._fail(task, failed or Failed("DamagedCheckpoint", outcome.reason, ""))

    def _note_superseded(self, task: TrajectoryTask, outcome: Superseded) -> None:
        message = f"taken over by {outcome.by}: another run works on this sweep"
        _LOGGER.error("%s was %s", task.name, message)
        self._superseded.append(Failure(task=task.name, error="Superseded", message=message))

    def _lose(self, lost: Lost) -> None:
        """Forget a dead worker; put its task back, unless the task has cost too many of them."""
        unborn = self._workers.forget(lost.worker)
        self._time_left.end(lost.worker)
        if lost.task is None:
            _LOGGER.warning("worker %d ended without a task: %s", lost.worker.number, lost.reason)
            if unborn and not lost.blameless:
                self._note_unborn(lost.reason)
            return
        _LOGGER.warning("worker %d was lost with %s: %s", lost.worker.number, lost.task.name, lost.reason)
        self._look_for_published(lost.task)
        if lost.out_of_memory:
            self._try_again(lost.task, self._limits.exhausted(lost.task.name, lost.reason))
        else:
            begun = not lost.unreachable or self._was_begun(lost.task)
            failed = self._limits.lost(lost.task.name, lost.reason, begun=begun, blameless=lost.blameless)
            self._try_again(lost.task, failed)

    def _look_for_published(self, task: Task) -> None:
        """Take in the checkpoints that a lost worker had no time to speak of."""
        if isinstance(task, TrajectoryTask):
            standing = checkpoints_in(self._storage.child(checkpoints_folder(task.plan.id)))
            if self._backlog.published(task.plan.id, standing):
                self._limits.published(task.name)

    def _was_begun(self, task: Task) -> bool:
        """Return whether a worker began with a task, as far as files can tell.

        Several may be gone at a time, and a task that was handed from one to the next has cost none of them.
        """
        if not isinstance(task, TrajectoryTask):
            return True
        standing = read_lease(self._storage, task.plan.id)
        return standing is not None and standing.attempt >= task.attempt

    def _note_unborn(self, reason: str) -> None:
        """Raise ExecutorError where no worker can start any more; where others work, their machines are sound."""
        several = self._limits.stillborn()
        if several is not None and not self._workers.has_workers:
            raise ExecutorError(
                f"{several} workers in a row could not start; the last one: {reason}",
                "see the workers' logs in Ray's session folder; `sphere run SWEEP --local` tries it here",
            )

    def _try_again(self, task: Task, failed: Failed | None = None) -> None:
        """Put a task back, or record its failure; a trajectory that a watchdog has stopped has ended where it was."""
        if isinstance(task, TrajectoryTask) and self._backlog.tracked[task.plan.id].stopped_at is not None:
            self._backlog.ended(task.plan.id, failed=False)
            judge(self._backlog, self._storage, task.plan.id)
        elif failed is None:
            self._backlog.put_back(task)
        else:
            self._fail(task, failed)

    def _fail(self, task: Task, failed: Failed) -> None:
        if isinstance(task, TrajectoryTask):
            failed = replace(failed, edits=self._backlog.tracked[task.plan.id].running_edits or None)
        failed.record(task).write(self._storage, task.error_path)
        self._settle(task, failed)
