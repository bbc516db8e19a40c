"""The end of a run that stops early: batches under way end, and are published."""

import contextlib
import logging
import time
from collections import deque

from workflows.driver.executor import Event, Executor, ExecutorError, Finished, Lost
from workflows.driver.workers import Crew
from workflows.replicas.tasks import TrajectoryTask

__all__ = ["wind_down"]

_TICK_SECONDS = 0.5
_LOGGER = logging.getLogger(__name__)


def wind_down(executor: Executor, crew: Crew, events: deque[Event], seconds: float) -> None:
    """Let running trajectories publish a checkpoint, for so long; what does not answer is left behind.

    `events` are those not dealt with yet. Where the cluster is gone meanwhile there is nobody to wait for, and the run
    ends for the reason it had.
    """
    with contextlib.suppress(ExecutorError):
        executor.stop_work()
        _wait_for_batches(executor, crew, events, time.monotonic() + seconds)


def _wait_for_batches(executor: Executor, crew: Crew, events: deque[Event], deadline: float) -> None:
    while editing := [task.name for task in crew.busy.values() if isinstance(task, TrajectoryTask)]:
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
                crew.forget(event.worker)
