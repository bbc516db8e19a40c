"""The driver: a pull loop that gives free workers the next piece of work until nothing is left.

It keeps no truth: everything it knows it has read from files or heard from replicas that wrote files first. Kill
it anywhere and start it again.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sphere_core.storage import Storage
from sphere_core.storage_faults import StorageError
from workflows.after_scores import judge, trim_scored
from workflows.blame import Blame
from workflows.board import Board
from workflows.executor import Event, Executor, ExecutorError, Finished, Leaving, Lost, Ready, Role, Worker
from workflows.lease import read_lease
from workflows.pace import Pace
from workflows.replica import record_failure
from workflows.state import derive_state
from workflows.tasks import (
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
from workflows.view import Display, View

__all__ = ["Driver", "SweepResult"]

_TICK_SECONDS = 0.5
# How often workers are asked what they do.
_ASK_SECONDS = 0.5
# How often it is asked whether there is room for more workers.
_GROW_SECONDS = 0.5
# After how long a replica without work is ended.
_IDLE_SECONDS = 60.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """How a run ended: complete, stopped, what failed on the way, and why storage gave out if it did."""

    complete: bool
    stopped: bool
    failures: tuple[dict[str, Any], ...]
    storage_fault: str | None = None


class Driver:
    """Runs the open work of one board on one executor."""

    def __init__(
        self,
        board: Board,
        executor: Executor,
        storage: Storage,
        display: Display,
        *,
        evaluators: int,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """`guard` is called at every step; what it raises ends the run as it stands."""
        self._board = board
        self._executor = executor
        self._storage = storage
        self._display = display
        self._evaluators = evaluators
        self._guard = guard
        self._idle: list[Worker] = []
        self._starting: set[Worker] = set()
        self._busy: dict[Worker, Task] = {}
        self._model_of: dict[Worker, str] = {}
        self._pace = Pace()
        self._leaving: set[Worker] = set()
        self._blame = Blame()
        self._storage_fault: str | None = None
        self._asked = -_ASK_SECONDS
        self._grew = -_GROW_SECONDS
        self._idle_since: dict[Worker, float] = {}
        self._superseded: list[dict[str, Any]] = []
        self._interrupted = False

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
            for trajectory_id in self._board.tracked if self._board.sweep.plan.watchdog is not None else ():
                judge(self._board, self._storage, trajectory_id)
            while self._storage_fault is None and not self._interrupted:
                self._guard()
                self._board.give_up_blocked()
                self._assign()
                if not self._busy and not self._has_work():
                    break
                self._grow()
                self._follow(self._executor.wait(_TICK_SECONDS))
        except KeyboardInterrupt:
            self._interrupted = True
        except StorageError as error:
            self._storage_fault = str(error)
        if self._interrupted:
            _LOGGER.warning("stopping: batches under way are ended and published; the same signal again ends at once")
            self._wind_down()
            return self._result(stopped=True)
        if self._storage_fault is not None:
            _LOGGER.error("storage gives out; what runs is asked to stop: %s", self._storage_fault)
            self._wind_down()
            return SweepResult(False, False, tuple(self._superseded), self._storage_fault)
        return self._result(stopped=False)

    def _result(self, *, stopped: bool) -> SweepResult:
        state = derive_state(self._storage, self._board.sweep.plan)
        failures = (*state.failures, *self._superseded)
        return SweepResult(state.is_complete, stopped, tuple(failures))

    def _has_work(self) -> bool:
        return any(self._board.waiting().values())

    def _grow(self) -> None:
        """Start as many workers as the machines hold and the open work needs; replicas come before evaluators.

        What the machines hold is asked now and then: a worker that has finished waits meanwhile.
        """
        if time.monotonic() - self._grew < _GROW_SECONDS:
            return
        self._grew = time.monotonic()
        there = Counter(worker.role for worker in (*self._idle, *self._starting, *self._busy))
        waiting = self._board.waiting()
        # Evaluators score and do nothing else; one that is still to start may never find a place.
        scores = max(0, waiting["score"] - sum(worker.role == "evaluator" for worker in self._idle))
        free = sum(worker.role == "replica" for worker in (*self._idle, *self._starting))
        needed = waiting["moments"] + waiting["trajectory"] + scores - free
        for _ in range(min(self._executor.most("replica") - there["replica"], needed)):
            self._starting.add(self._executor.start("replica"))
        if self._board.has_open_trajectories():
            wanted = min(self._evaluators, self._executor.most("evaluator"))
            for _ in range(wanted - there["evaluator"]):
                self._starting.add(self._executor.start("evaluator"))
        self._shrink()

    def _shrink(self) -> None:
        """End replicas that have had nothing to do for a while: a node without any may go.

        Evaluators stay as long as there is editing, for the next checkpoint.
        """
        idle = [worker for worker in self._idle if worker.role == "replica"]
        now = time.monotonic()
        self._idle_since = {worker: self._idle_since.get(worker, now) for worker in idle}
        for worker, since in self._idle_since.items():
            if now - since > _IDLE_SECONDS:
                self._end(worker)

    def _assign(self) -> None:
        for worker in list(self._idle):
            task = self._board.take(self._preference(worker.role), self._model_of.get(worker))
            if task is None:
                continue
            self._idle.remove(worker)
            self._busy[worker] = task
            self._model_of[worker] = task.spec.model_digest
            self._pace.begin(worker, task)
            self._executor.assign(worker, task)

    def _preference(self, role: Role) -> tuple[str, ...]:
        if role == "evaluator":
            return ("score",)
        # Where no evaluator has found a place replicas score, and first: a watchdog waits for it.
        if any(worker.role == "evaluator" for worker in (*self._idle, *self._busy)):
            return ("moments", "trajectory", "score")
        return ("moments", "score", "trajectory")

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Ready(worker):
                    self._starting.discard(worker)
                    self._blame.born()
                    self._idle.append(worker)
                case Finished(worker, task, outcome):
                    self._busy.pop(worker, None)
                    self._pace.end(worker)
                    self._idle.append(worker)
                    if worker in self._leaving or isinstance(outcome, Stopped | OutOfMemory):
                        self._end(worker)
                    self._settle(task, outcome)
                case Lost():
                    self._lose(event)
                case Leaving(worker):
                    self._let_go(worker)
        if events and self._storage_fault is None and not self._interrupted:
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
        self._show(dict.fromkeys(self._busy, progress))

    def _show(self, doing: dict[Worker, ReplicaProgress]) -> None:
        counts = self._board.counts()
        left = self._pace.seconds_left(counts, len(self._busy))
        view = View(counts, self._stage(), self._pace.edits_per_second(counts), left, doing)
        self._display.update(view)

    def _hear(self, progress: ReplicaProgress) -> None:
        """Take in what a replica says: how far its trajectory is, and which checkpoints stand."""
        if progress.task is None or not progress.task.startswith("trajectory-"):
            return
        trajectory_id = progress.task.removeprefix("trajectory-")
        self._board.running(trajectory_id, progress.edits)
        if self._board.published(trajectory_id, progress.published):
            self._blame.published(progress.task)

    def _settle(self, task: Task, outcome: Outcome) -> None:
        if isinstance(outcome, Damaged):
            self._remake(task, outcome)
        elif isinstance(outcome, OutOfMemory):
            _LOGGER.warning("%s ran out of memory: %s", task.name, outcome.message)
            self._try_again(task, self._blame.exhausted(task.name, outcome.message))
        elif isinstance(outcome, StorageFailed):
            self._storage_fault = outcome.reason
        elif isinstance(task, TrajectoryTask):
            self._settle_trajectory(task, outcome)
        elif isinstance(outcome, Failed):
            self._board.task_failed(task)
        elif isinstance(task, MomentsTask):
            self._board.moments_done(task)
        elif isinstance(task, ScoreTask):
            self._board.scored(task)
            if task.subject_id is not None:
                judge(self._board, self._storage, task.subject_id)
                trim_scored(self._board, self._storage, task.subject_id)
        if isinstance(outcome, Failed):
            _LOGGER.error("%s failed: %s: %s", task.name, outcome.error, outcome.message)

    def _settle_trajectory(self, task: TrajectoryTask, outcome: Outcome) -> None:
        if isinstance(outcome, Done | Stopped):
            collapsed = isinstance(outcome, Done) and outcome.collapsed
            self._board.published(task.plan.id, outcome.published, collapsed=collapsed)
        if isinstance(outcome, Stopped):
            _LOGGER.info("%s stopped at a checkpoint; it goes on elsewhere", task.name)
            self._give_back(task)
            return
        self._board.ended(task.plan.id, failed=isinstance(outcome, Failed))
        judge(self._board, self._storage, task.plan.id)
        trim_scored(self._board, self._storage, task.plan.id)
        if isinstance(outcome, Superseded) and self._board.tracked[task.plan.id].stopped_at is None:
            self._note_superseded(task, outcome)

    def _remake(self, task: Task, outcome: Damaged) -> None:
        """Have a damaged checkpoint made again, unless that keeps happening."""
        _LOGGER.warning("%s: damaged checkpoint, to be made again: %s", task.name, outcome.reason.splitlines()[0])
        failed = self._blame.damaged(task.name, outcome.reason)
        if failed is None and isinstance(task, ScoreTask):
            self._board.damaged(task)
            return
        self._fail(task, failed or Failed("DamagedCheckpoint", outcome.reason, ""))

    def _note_superseded(self, task: TrajectoryTask, outcome: Superseded) -> None:
        message = f"taken over by {outcome.by}: another run works on this sweep"
        _LOGGER.error("%s was %s", task.name, message)
        self._superseded.append({"task": task.name, "error": "Superseded", "message": message})

    def _let_go(self, worker: Worker) -> None:
        """Give a worker nothing more; its trajectory stops at the next batch, a score is finished."""
        if worker in self._idle:
            self._end(worker)
        elif worker in self._busy and worker not in self._leaving:
            _LOGGER.warning("the machine of worker %d is about to go", worker.number)
            self._leaving.add(worker)
            if isinstance(self._busy[worker], TrajectoryTask):
                self._executor.stop_work(worker)

    def _end(self, worker: Worker) -> None:
        self._forget(worker)
        self._executor.end(worker)

    def _forget(self, worker: Worker) -> None:
        self._busy.pop(worker, None)
        self._pace.end(worker)
        self._model_of.pop(worker, None)
        self._starting.discard(worker)
        self._leaving.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)

    def _lose(self, lost: Lost) -> None:
        """Forget a dead worker; put its task back, unless the task has cost too many of them."""
        unborn = lost.worker in self._starting
        self._forget(lost.worker)
        if lost.task is None:
            _LOGGER.warning("worker %d ended without a task: %s", lost.worker.number, lost.reason)
            self._note_unborn(unborn, lost.reason)
            return
        _LOGGER.warning("worker %d was lost with %s: %s", lost.worker.number, lost.task.name, lost.reason)
        if lost.out_of_memory:
            self._try_again(lost.task, self._blame.exhausted(lost.task.name, lost.reason))
        else:
            blameless = lost.blameless or (lost.unreachable and not self._was_begun(lost.task))
            self._try_again(lost.task, self._blame.lost(lost.task.name, lost.reason, blameless=blameless))

    def _was_begun(self, task: Task) -> bool:
        """Tell whether a worker began with a task, as far as files can tell: several may be gone at a time, and a task
        that was handed from one to the next has cost none of them."""
        if not isinstance(task, TrajectoryTask):
            return True
        standing = read_lease(self._storage, task.plan.id)
        return standing is not None and standing.attempt >= task.attempt

    def _note_unborn(self, unborn: bool, reason: str) -> None:
        several = self._blame.stillborn() if unborn else None
        if several is not None:
            raise ExecutorError(
                f"{several} workers in a row could not start; the last one: {reason}",
                "see the workers' logs in Ray's session folder; `sphere run SWEEP --local` tries it here",
            )

    def _try_again(self, task: Task, failed: Failed | None) -> None:
        if failed is None:
            self._give_back(task)
        else:
            self._fail(task, failed)

    def _give_back(self, task: Task) -> None:
        """Put a task back on the board; a trajectory that a watchdog has stopped meanwhile has ended where it was."""
        if isinstance(task, TrajectoryTask) and self._board.tracked[task.plan.id].stopped_at is not None:
            self._board.ended(task.plan.id, failed=False)
            judge(self._board, self._storage, task.plan.id)
        else:
            self._board.put_back(task)

    def _fail(self, task: Task, failed: Failed) -> None:
        if isinstance(task, TrajectoryTask):
            failed = replace(failed, edits=self._board.tracked[task.plan.id].running_edits or None)
        record_failure(self._storage, task, failed)
        self._settle(task, failed)

    def _wind_down(self) -> None:
        """Let running trajectories publish a checkpoint, for a while; what does not answer is left behind."""
        self._executor.stop_work()
        deadline = time.monotonic() + self._board.sweep.spec.resources.grace_seconds
        while any(isinstance(task, TrajectoryTask) for task in self._busy.values()):
            if time.monotonic() > deadline:
                left = ", ".join(task.name for task in self._busy.values() if isinstance(task, TrajectoryTask))
                _LOGGER.warning("left behind in the middle of a batch, at their last checkpoints: %s", left)
                return
            for event in self._executor.wait(_TICK_SECONDS):
                if isinstance(event, Finished | Lost):
                    self._busy.pop(event.worker, None)

    def _stage(self) -> str:
        if any(isinstance(task, MomentsTask) for task in self._busy.values()):
            return "second moments"
        if any(isinstance(task, TrajectoryTask) for task in self._busy.values()):
            return "editing and scoring"
        if self._busy:
            return "scoring"
        return "starting"
