"""The driver: works through the open tasks of a sweep, shows progress, and ends in order.

It holds no durable state: everything it knows was read from files, or reported by replicas that had written files
before. It can be killed at any point and started again.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from sphere_core.foundation.storage import Storage
from sphere_core.foundation.storage_faults import StorageError
from workflows.driver.backlog import Backlog
from workflows.driver.display import Display, View
from workflows.driver.executor import Executor, Worker
from workflows.driver.stalls import StallWatch
from workflows.driver.sweep_tasks import Editing
from workflows.driver.sweep_work import SweepWork
from workflows.driver.verdicts import Verdicts
from workflows.driver.worker_loop import WorkerLoop
from workflows.driver.workers import Workers, wind_down
from workflows.replicas.tasks import ReplicaProgress
from workflows.store.records import Failure
from workflows.store.state import derive_state
from workflows.sweeps.expand import Sweep

__all__ = ["Driver", "SweepResult"]

# Seconds between two updates of the display.
_SHOW_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """How a run ended: complete, stopped, the failures, and the storage fault, if any."""

    complete: bool
    stopped: bool
    failures: tuple[Failure, ...]
    storage_fault: str | None = None


class Driver:
    """Runs the open work of one sweep on one executor."""

    def __init__(
        self,
        sweep: Sweep,
        executor: Executor,
        storage: Storage,
        display: Display,
        *,
        evaluators: int = 0,
        editing: Editing = "ahead",
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        """`evaluators` is the number of dedicated ones; `editing` says whether trajectories wait for their scores, and
        whether they run at all. `guard` is called at every step; an error of it ends the run at once."""
        self._sweep = sweep
        self._executor = executor
        self._storage = storage
        self._display = display
        self._guard = guard
        self._backlog = Backlog.from_files(sweep, storage, editing=editing)
        self._verdicts = Verdicts(sweep.plan, self._backlog, storage)
        self._work = SweepWork(self._backlog, storage, self._verdicts)
        self._workers = Workers(executor, evaluators=evaluators)
        self._loop = WorkerLoop(executor, self._workers, self._work, StallWatch(sweep.spec.resources.stall))
        self._interrupted = False
        self._shown = -math.inf
        executor.on_progress(self._show_progress)

    def interrupt(self) -> None:
        """Stop the run at its next step; only sets flags, so a signal handler may call it."""
        self._interrupted = True
        self._executor.stop_work()

    def run(self) -> SweepResult:
        """Work until nothing is left that can be done; a second run continues from the files.

        An interrupt, and storage that is full or keeps failing, end the run; running trajectories publish a checkpoint
        first if they can. Raises ExecutorError if no worker can start.
        """
        storage_fault = None
        try:
            self._verdicts.judge_all()
            while not self._interrupted:
                self._guard()
                if not self._loop.step():
                    break
                self._show()
        except KeyboardInterrupt:
            if self._interrupted:
                raise
            self._interrupted = True
            _LOGGER.warning("stopping: batches under way are ended and published")
        except StorageError as error:
            storage_fault = str(error)
        if storage_fault is not None and not self._interrupted:
            _LOGGER.error("storage cannot be used; running trajectories are asked to stop: %s", storage_fault)
            self._wind_down()
            return SweepResult(False, False, tuple(self._work.superseded), storage_fault)
        if self._interrupted:
            self._wind_down()
        state = derive_state(self._storage, self._sweep.plan)
        failures = (*state.failures, *self._work.superseded)
        return SweepResult(state.is_complete, self._interrupted, failures)

    def _wind_down(self) -> None:
        seconds = self._sweep.spec.resources.grace_seconds
        wind_down(self._executor, self._workers, self._loop.events, seconds)

    def _show_progress(self, worker: Worker, progress: ReplicaProgress) -> None:
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._shown < _SHOW_SECONDS:
            return
        self._shown = now
        counts, busy, time_left = self._backlog.counts(), self._workers.busy, self._workers.time_left
        view = View(
            counts,
            self._workers.stage,
            time_left.edits_per_second(counts),
            time_left.seconds_left(counts, len(busy)),
            {worker: said for worker, said in self._loop.doing.items() if worker in busy},
        )
        self._display.update(view)
