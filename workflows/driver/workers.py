"""The workers of a run: their number, which are free, which are being drained, and their preferred kinds of task."""

import contextlib
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Mapping

from workflows.driver.executor import Event, Executor, ExecutorError, Finished, Lost, Role, Worker
from workflows.driver.time_left import TimeLeft
from workflows.replicas.tasks import MomentsTask, Task, TaskKind, TrajectoryTask

__all__ = ["Workers", "wind_down"]


class Workers:
    """Workers of one executor, by their current activity. Holds their tasks, and decides nothing about them."""

    def __init__(
        self, executor: Executor, *, evaluators: int, grow_seconds: float = 0.5, idle_seconds: float = 60.0
    ) -> None:
        """`evaluators` is the number of dedicated ones, `grow_seconds` the interval of checks for room for more
        workers, `idle_seconds` the time after which a replica without work is ended."""
        self._executor = executor
        self._evaluators = evaluators
        self._grow_seconds = grow_seconds
        self._idle_seconds = idle_seconds
        self.idle: list[Worker] = []
        self.busy: dict[Worker, Task] = {}
        self._starting: set[Worker] = set()
        self._leaving: set[Worker] = set()
        self._model_of: dict[Worker, str] = {}
        self._idle_since: dict[Worker, float] = {}
        self._grew = -math.inf
        self.time_left = TimeLeft()

    def grow(self, waiting: Mapping[TaskKind, int], *, editing: bool) -> None:
        """Start as many workers as the machines hold and the open tasks require; replicas come before evaluators.

        `waiting` counts open tasks by kind, `editing`: any trajectory is open. What the machines hold is checked from
        time to time, and whenever a worker has gone. Replicas without a task for a while are ended, so that a node can
        be removed; evaluators are kept during editing, for the next checkpoint.
        """
        now = time.monotonic()
        if now - self._grew < self._grow_seconds:
            return
        self._grew = now
        there = Counter(worker.role for worker in (*self.idle, *self._starting, *self.busy))
        # Evaluators only score; one that has not started may never find a place.
        scores = max(0, waiting["score"] - sum(worker.role == "evaluator" for worker in self.idle))
        free = sum(worker.role == "replica" for worker in (*self.idle, *self._starting))
        needed = waiting["moments"] + waiting["trajectory"] + scores - free
        self._start("replica", min(self._executor.most("replica") - there["replica"], needed))
        if editing:
            wanted = min(self._evaluators, self._executor.most("evaluator"))
            self._start("evaluator", wanted - there["evaluator"])
        replicas = [worker for worker in self.idle if worker.role == "replica"]
        self._idle_since = {worker: self._idle_since.get(worker, now) for worker in replicas}
        for worker, since in self._idle_since.items():
            if now - since > self._idle_seconds:
                self.end(worker)

    def _start(self, role: Role, count: int) -> None:
        self._starting.update(self._executor.start(role) for _ in range(count))

    def preference(self, worker: Worker) -> tuple[TaskKind, ...]:
        """Return the kinds of tasks that a worker takes, the preferred one first."""
        if worker.role == "evaluator":
            return ("score",)
        # Until an evaluator has found a place, replicas score, and do so first: a watchdog waits for scores.
        if any(other.role == "evaluator" for other in (*self.idle, *self.busy)):
            return ("moments", "trajectory", "score")
        return ("moments", "score", "trajectory")

    @property
    def has_workers(self) -> bool:
        """Whether any worker has started: it has a task, or is ready for one."""
        return bool(self.busy or self.idle)

    @property
    def stage(self) -> str:
        """The current stage of the run, as text for the display."""
        if any(isinstance(task, MomentsTask) for task in self.busy.values()):
            return "second moments"
        if any(isinstance(task, TrajectoryTask) for task in self.busy.values()):
            return "editing and scoring"
        return "scoring" if self.busy else "starting"

    def model_of(self, worker: Worker) -> str | None:
        """Return the digest of the model that a worker holds; None if it has not had a task yet."""
        return self._model_of.get(worker)

    def ready(self, worker: Worker) -> None:
        """Note that a worker has started."""
        self._starting.discard(worker)
        self.idle.append(worker)

    def assign(self, worker: Worker, task: Task) -> None:
        """Give an idle worker a task."""
        self.idle.remove(worker)
        self.busy[worker] = task
        self._model_of[worker] = task.spec.model_digest
        self.time_left.begin(worker, task)
        self._executor.assign(worker, task)

    def finished(self, worker: Worker, *, reusable: bool) -> None:
        """Note that a worker is free again; one that is not reusable, or whose machine will leave, is ended."""
        self.busy.pop(worker, None)
        self.time_left.end(worker)
        self.idle.append(worker)
        if not reusable or worker in self._leaving:
            self.end(worker)

    def drain(self, worker: Worker) -> bool:
        """Assign no further task to a worker whose machine has notice to leave: a trajectory stops at its next batch,
        any other task is finished. Return whether the worker is busy and was not being drained before."""
        if worker in self.idle:
            self.end(worker)
            return False
        if worker not in self.busy or worker in self._leaving:
            return False
        self._leaving.add(worker)
        if isinstance(self.busy[worker], TrajectoryTask):
            self._executor.stop_work(worker)
        return True

    def end(self, worker: Worker) -> None:
        """End a worker without a task."""
        self.forget(worker)
        self._executor.end(worker)

    def forget(self, worker: Worker) -> bool:
        """Remove a worker that is gone; return whether it had been ready."""
        was_ready = worker not in self._starting
        self.time_left.end(worker)
        if was_ready:
            # Its place is free; a worker that could not start would fail again as fast.
            self._grew = -math.inf
        self.busy.pop(worker, None)
        self._model_of.pop(worker, None)
        self._starting.discard(worker)
        self._leaving.discard(worker)
        if worker in self.idle:
            self.idle.remove(worker)
        return was_ready


_TICK_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)


def wind_down(executor: Executor, workers: Workers, events: deque[Event], seconds: float) -> None:
    """Let running trajectories publish a checkpoint, for a number of seconds; workers that do not answer are abandoned.

    `events` are those not processed yet. If the cluster is lost meanwhile there is nothing to wait for, and the run
    ends with the reason it had.
    """
    with contextlib.suppress(ExecutorError):
        executor.stop_work()
        _wait_for_batches(executor, workers, events, time.monotonic() + seconds)


def _wait_for_batches(executor: Executor, workers: Workers, events: deque[Event], deadline: float) -> None:
    while editing := [task.name for task in workers.busy.values() if isinstance(task, TrajectoryTask)]:
        if time.monotonic() > deadline:
            _LOGGER.warning("left behind in the middle of a batch, at their last checkpoints: %s", ", ".join(editing))
            return
        if not events:
            events.extend(executor.wait(_TICK_SECONDS))
        if not events:
            time.sleep(_TICK_SECONDS / 10)
        while events:
            event = events.popleft()
            if isinstance(event, Finished | Lost):
                workers.forget(event.worker)
