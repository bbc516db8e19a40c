"""Workers that no longer get anywhere: a batch, a score or a build that never returns.

A worker whose process lives may still hang: on an accelerator, on storage, in code of a plugin. It is judged by its
signs of life (`ReplicaProgress`): a worker without one for a multiple of the longest step that this run has seen of
the same work is given up. Time is counted in looks of the driver, each worth a few seconds at most, so that time in
which the driver itself was suspended does not count.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sphere_core.foundation.durations import duration
from workflows.driver.executor import Worker
from workflows.replicas.tasks import ReplicaProgress, ScoreTask, Task, TrajectoryTask
from workflows.sweeps.resources import StallLimits

__all__ = ["Stall", "StallWatch"]

# What one look is worth at most.
_LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Stall:
    """A worker that has shown no sign of life for too long, with its task and the reason as text."""

    worker: Worker
    task: Task
    reason: str


class StallWatch:
    """Follows busy workers; `limits` None: never gives one up. Nothing is stored: a new run measures again."""

    def __init__(self, limits: StallLimits | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._looked = clock()
        # Seconds of looks so far: the time of everything below.
        self._now = 0.0
        self._steps: dict[Worker, _Step] = {}
        # The longest step seen, by work.
        self._longest: dict[tuple[str, ...], float] = {}

    def begin(self, worker: Worker, task: Task) -> None:
        """Note that a worker starts a task."""
        self._steps[worker] = _Step(task, self._now, self._now)

    def heard(self, worker: Worker, progress: ReplicaProgress) -> None:
        """Note a report of a worker: whatever differs from its last one is a sign of life."""
        step = self._steps.get(worker)
        if step is None or progress == step.said:
            return
        if progress.of and step.loaded and progress.edits > step.edits:
            self._measure(step)
            step.begun = self._now
        elif progress.of and not step.loaded:
            step.loaded, step.begun = True, self._now
        step.said, step.edits, step.moved = progress, progress.edits, self._now

    def end(self, worker: Worker, *, finished: bool = False) -> None:
        """Note that a worker's task is over; `finished`: with a result, so that a score has been measured."""
        step = self._steps.pop(worker, None)
        if step is not None and finished and isinstance(step.task, ScoreTask):
            self._measure(step)

    def look(self) -> list[Stall]:
        """Return the workers to give up; to be called at every step of the driver."""
        clock = self._clock()
        self._now += min(max(clock - self._looked, 0.0), _LOOK_SECONDS)
        self._looked = clock
        if self._limits is None:
            return []
        found = []
        for worker, step in self._steps.items():
            # What it waits for is built by another worker, which is watched as well.
            waits = step.said is not None and step.said.waits_for is not None
            limit, still = self._limit(step, self._limits), self._now - step.moved
            if limit is not None and not waits and still > limit:
                found.append(Stall(worker, step.task, _reason(step, still, limit)))
        return found

    def _limit(self, step: "_Step", limits: StallLimits) -> float | None:
        usual = self._longest.get(_work(step.task))
        # A model that is being loaded is not measured.
        if usual is None or (isinstance(step.task, TrajectoryTask) and not step.loaded):
            return limits.unmeasured
        return max(limits.at_least, limits.times * usual)

    def _measure(self, step: "_Step") -> None:
        work = _work(step.task)
        self._longest[work] = max(self._longest.get(work, 0.0), self._now - step.begun)


@dataclass
class _Step:
    """A worker's task: when the step under way began, and when it last moved."""

    task: Task
    begun: float
    moved: float
    said: ReplicaProgress | None = None
    edits: int = 0
    loaded: bool = False


def _work(task: Task) -> tuple[str, ...]:
    """Return what has steps of like length: one method on one model, one evaluator on one model."""
    if isinstance(task, TrajectoryTask):
        return task.kind, task.spec.model_digest, task.plan.title, str(task.plan.batch_size)
    if isinstance(task, ScoreTask):
        return task.kind, task.spec.model_digest, task.evaluation.kind
    return task.kind, task.spec.model_digest


def _reason(step: _Step, still: float, limit: float) -> str:
    at = "" if step.said is None or step.said.within is None else f" at {step.said.within}"
    return f"no progress for {duration(still)}{at}, longer than the {duration(limit)} after which a step counts as hung"
