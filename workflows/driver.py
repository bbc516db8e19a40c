"""The driver: a pull loop that gives free workers the next piece of work until nothing is left.

It keeps no truth: everything it knows it has read from files or heard from replicas that wrote files first. Kill
it anywhere and start it again.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from sphere_core.storage import Storage
from workflows.board import Board, Counts
from workflows.executor import Event, Executor, Finished, Lost, Ready, Role, Worker
from workflows.pace import Pace
from workflows.replica import record_failure
from workflows.state import derive_state
from workflows.tasks import (
    Damaged,
    Done,
    Failed,
    MomentsTask,
    Outcome,
    ReplicaProgress,
    ScoreTask,
    Stopped,
    Superseded,
    Task,
    TrajectoryTask,
)

__all__ = ["Display", "Driver", "SweepResult", "View"]

# How often a task may lose its worker, with nothing new published in between, before it counts as its fault.
MAX_LOSSES = 3
# How many workers may die before their first task.
MAX_STILLBORN = 5
_TICK_SECONDS = 0.5
_STOP_SECONDS = 120.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """What there is to show: counts, what is going on, the rate, the time left, what each worker does."""

    counts: Counts
    stage: str
    edits_per_second: float
    seconds_left: float | None
    doing: dict[Worker, ReplicaProgress]


class Display(Protocol):
    """Shows how far a sweep is."""

    def update(self, view: View) -> None:
        """Show it."""
        ...


@dataclass(frozen=True)
class SweepResult:
    """How a run ended: complete, and what failed on the way."""

    complete: bool
    stopped: bool
    failures: tuple[dict[str, Any], ...]


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
    ) -> None:
        self._board = board
        self._executor = executor
        self._storage = storage
        self._display = display
        self._evaluators = evaluators
        self._idle: list[Worker] = []
        self._starting: set[Worker] = set()
        self._busy: dict[Worker, Task] = {}
        self._model_of: dict[Worker, str] = {}
        self._pace = Pace()
        self._losses: Counter[str] = Counter()
        self._stillborn = 0
        self._superseded: list[dict[str, Any]] = []

    def run(self) -> SweepResult:
        """Work until nothing is left that can be done; an interrupt publishes checkpoints first and stops."""
        try:
            while True:
                self._board.give_up_blocked()
                self._assign()
                if not self._busy and not self._has_work():
                    break
                self._grow()
                self._follow(self._executor.wait(_TICK_SECONDS))
        except KeyboardInterrupt:
            self._wind_down()
            return self._result(stopped=True)
        return self._result(stopped=False)

    def _result(self, *, stopped: bool) -> SweepResult:
        state = derive_state(self._storage, self._board.sweep.plan)
        failures = (*state.failures, *self._superseded)
        return SweepResult(state.is_complete, stopped, tuple(failures))

    def _has_work(self) -> bool:
        return any(self._board.waiting().values())

    def _grow(self) -> None:
        """Start as many workers as the machines hold and the open work needs; replicas come before evaluators."""
        everybody = [*self._idle, *self._starting, *self._busy]
        replicas = sum(worker.role == "replica" for worker in everybody)
        needed = sum(self._board.waiting().values()) - len(self._idle) - len(self._starting)
        for _ in range(min(self._executor.most("replica") - replicas, needed)):
            self._starting.add(self._executor.start("replica"))
        if self._board.has_open_trajectories():
            wanted = min(self._evaluators, self._executor.most("evaluator"))
            for _ in range(wanted - (len(everybody) - replicas)):
                self._starting.add(self._executor.start("evaluator"))

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
        if self._evaluators:
            return ("moments", "trajectory", "score")
        return ("moments", "score", "trajectory")

    def _follow(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case Ready(worker):
                    self._starting.discard(worker)
                    self._idle.append(worker)
                case Finished(worker, task, outcome):
                    self._busy.pop(worker, None)
                    self._pace.end(worker)
                    self._idle.append(worker)
                    self._settle(task, outcome)
                case Lost(worker, task, reason):
                    self._lose(worker, task, reason)
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
            self._losses[progress.task] = 0

    def _settle(self, task: Task, outcome: Outcome) -> None:
        if isinstance(outcome, Damaged):
            self._remake(task, outcome)
        elif isinstance(task, TrajectoryTask):
            if isinstance(outcome, Done | Stopped):
                collapsed = isinstance(outcome, Done) and outcome.collapsed
                self._board.published(task.plan.id, outcome.published, collapsed=collapsed)
            self._board.ended(task.plan.id, failed=isinstance(outcome, Failed))
            if isinstance(outcome, Superseded):
                self._note_superseded(task, outcome)
        elif isinstance(outcome, Failed):
            self._board.task_failed(task)
        elif isinstance(task, MomentsTask):
            self._board.moments_done(task)
        elif isinstance(task, ScoreTask):
            self._board.scored()
        if isinstance(outcome, Failed):
            _LOGGER.error("%s failed: %s: %s", task.name, outcome.error, outcome.message)

    def _remake(self, task: Task, outcome: Damaged) -> None:
        """Have a damaged checkpoint made again, unless that keeps happening."""
        self._losses[task.name] += 1
        _LOGGER.warning("%s: damaged checkpoint, to be made again: %s", task.name, outcome.reason.splitlines()[0])
        if isinstance(task, ScoreTask) and self._losses[task.name] < MAX_LOSSES:
            self._board.damaged(task)
            return
        failed = Failed("DamagedCheckpoint", f"damaged {MAX_LOSSES} times: {outcome.reason}", "")
        record_failure(self._storage, task, failed)
        self._settle(task, failed)

    def _note_superseded(self, task: TrajectoryTask, outcome: Superseded) -> None:
        message = f"taken over by {outcome.by}: another run works on this sweep"
        _LOGGER.error("%s was %s", task.name, message)
        self._superseded.append({"task": task.name, "error": "Superseded", "message": message})

    def _lose(self, worker: Worker, task: Task | None, reason: str) -> None:
        """Forget a dead worker; put its task back, unless the task has cost too many of them."""
        self._busy.pop(worker, None)
        self._pace.end(worker)
        self._model_of.pop(worker, None)
        self._starting.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if task is None:
            self._stillborn += 1
            _LOGGER.warning("worker %d ended before its first task: %s", worker.number, reason)
            if self._stillborn >= MAX_STILLBORN:
                raise RuntimeError(f"{self._stillborn} workers in a row could not start; the last one: {reason}")
            return
        self._losses[task.name] += 1
        _LOGGER.warning("worker %d was lost with %s: %s", worker.number, task.name, reason)
        if self._losses[task.name] < MAX_LOSSES:
            self._board.put_back(task)
            return
        message = f"its worker was lost {MAX_LOSSES} times with nothing new published in between; the last: {reason}"
        failed = Failed("WorkerLost", message, "")
        record_failure(self._storage, task, failed)
        self._settle(task, failed)

    def _wind_down(self) -> None:
        """Let running trajectories publish a checkpoint, for a while; what does not answer is left behind."""
        self._executor.stop_work()
        waited = 0.0
        while any(isinstance(task, TrajectoryTask) for task in self._busy.values()) and waited < _STOP_SECONDS:
            for event in self._executor.wait(_TICK_SECONDS):
                if isinstance(event, Finished | Lost):
                    self._busy.pop(event.worker, None)
            waited += _TICK_SECONDS

    def _stage(self) -> str:
        if any(isinstance(task, MomentsTask) for task in self._busy.values()):
            return "second moments"
        if any(isinstance(task, TrajectoryTask) for task in self._busy.values()):
            return "editing and scoring"
        if self._busy:
            return "scoring"
        return "starting"
