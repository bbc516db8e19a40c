"""The pull loop: free workers get the next task, and its outcome is passed to the work.

Everything about workers is decided here (starting, losing, draining them); everything about tasks is decided by the
`Work`: a sweep's, or the shards of one set of second moments.
"""

import logging
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from workflows.driver.executor import Event, Executor, ExecutorError, Finished, Leaving, Lost, Ready, Worker
from workflows.driver.retry_limits import FailedStarts
from workflows.driver.stalls import Stall, StallWatch
from workflows.driver.workers import Workers
from workflows.replicas.tasks import Done, Outcome, OutOfMemory, ReplicaProgress, Stopped, Task, TaskKind

__all__ = ["Work", "WorkerLoop"]

_TICK_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)


class Work(Protocol):
    """Tasks to do, and the meaning of their outcomes. An error that a method raises ends the loop."""

    def take(self, kinds: Iterable[TaskKind], model: str | None) -> Task | None:
        """Take the next task of the first of these kinds that has any, preferring one on the given model."""
        ...

    def waiting(self) -> Mapping[TaskKind, int]:
        """Return how many tasks could start now, by kind."""
        ...

    def is_editing(self) -> bool:
        """Return whether any trajectory runs or waits, for which evaluators are kept."""
        ...

    def heard(self, progress: ReplicaProgress) -> None:
        """Process the progress of a busy worker."""
        ...

    def finished(self, task: Task, outcome: Outcome) -> None:
        """Process the outcome of a task."""
        ...

    def lost(self, task: Task, lost: Lost, *, begun: bool) -> None:
        """Process the loss of a task's worker; `begun`: the worker is known to have begun with the task."""
        ...


class WorkerLoop:
    """Assigns the tasks of one `Work` to the workers of one executor."""

    def __init__(self, executor: Executor, workers: Workers, work: Work, stalls: StallWatch) -> None:
        self.workers = workers
        self._stalls = stalls
        # Events that are not processed yet; after an error the rest stays here.
        self.events: deque[Event] = deque()
        # The last progress of busy workers.
        self.doing: dict[Worker, ReplicaProgress] = {}
        self._executor = executor
        self._work = work
        self._starts = FailedStarts()
        executor.on_progress(self._hear)

    def step(self) -> bool:
        """Assign what can be assigned and wait for events; return False if nothing is left that can be done.

        Raises ExecutorError if no worker can start, and any error of the work.
        """
        self._assign()
        waiting = self._work.waiting()
        if not self.workers.busy and not any(waiting.values()):
            return False
        self.workers.grow(waiting, editing=self._work.is_editing())
        self.events.extend(self._executor.wait(_TICK_SECONDS))
        while self.events:
            self._follow(self.events.popleft())
        for stall in self._stalls.look():
            self._give_up(stall)
        return True

    def _give_up(self, stall: Stall) -> None:
        """End a worker that makes no progress: its task counts as lost with it."""
        self._executor.end(stall.worker)
        self._lose(Lost(stall.worker, stall.task, stall.reason))

    def _assign(self) -> None:
        for worker in list(self.workers.idle):
            task = self._work.take(self.workers.preference(worker), self.workers.model_of(worker))
            if task is not None:
                self._stalls.begin(worker, task)
                self.workers.assign(worker, task)

    def _hear(self, worker: Worker, progress: ReplicaProgress) -> None:
        # An answer may arrive when its task is over already.
        task = self.workers.busy.get(worker)
        if task is not None and progress.task == task.name:
            self.doing[worker] = progress
            self._stalls.heard(worker, progress)
            self.workers.time_left.heard(worker, progress)
            self._work.heard(progress)

    def _follow(self, event: Event) -> None:
        match event:
            case Ready(worker):
                self._starts.succeeded()
                self.workers.ready(worker)
            case Finished(worker, task, outcome):
                self.doing.pop(worker, None)
                self._stalls.end(worker, finished=isinstance(outcome, Done))
                self.workers.finished(worker, reusable=_is_reusable(outcome))
                self._work.finished(task, outcome)
            case Lost():
                self._lose(event)
            case Leaving(worker):
                if self.workers.drain(worker):
                    _LOGGER.warning("the machine of worker %d is about to go", worker.number)

    def _lose(self, lost: Lost) -> None:
        said = self.doing.pop(lost.worker, None)
        self._stalls.end(lost.worker)
        was_ready = self.workers.forget(lost.worker)
        if lost.task is not None:
            _LOGGER.warning("worker %d was lost with %s: %s", lost.worker.number, lost.task.name, lost.reason)
            self._work.lost(lost.task, lost, begun=said is not None or not lost.unreachable)
            return
        _LOGGER.warning("worker %d ended without a task: %s", lost.worker.number, lost.reason)
        # If others are running, their machines are sound.
        if not (was_ready or lost.machine_gone) and self._starts.failed() and not self.workers.has_workers:
            raise ExecutorError(
                f"{self._starts.in_a_row} workers in a row could not start; the last one: {lost.reason}",
                "see the workers' logs in Ray's session folder; the same work without Ray shows the error here",
            )


def _is_reusable(outcome: Outcome) -> bool:
    """Return whether the worker can take another task: its stop flag is not set, and its memory is not in doubt."""
    return outcome.paused if isinstance(outcome, Stopped) else not isinstance(outcome, OutOfMemory)
