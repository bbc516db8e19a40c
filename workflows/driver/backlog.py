"""The open tasks in order: moments first, then trajectories, and scores as soon as a checkpoint is published.

The backlog starts from the files of a sweep and follows the events of one run; it writes no file. It holds nothing that
another scan of the files would not give. A sweep may have ten thousand trajectories: totals are never recomputed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from sphere_core.foundation.storage import Storage
from workflows.driver.fine_tunings import FineTunings
from workflows.driver.moments_queue import MomentsQueue
from workflows.driver.sweep_tasks import Editing, SweepTasks
from workflows.driver.tracking import Counts, TrackedTrajectory
from workflows.driver.work_queue import WorkQueue
from workflows.replicas.tasks import MomentsTask, ScoreTask, Task, TaskKind, TrajectoryTask
from workflows.store.layout import moments_path, task_error_path
from workflows.store.lease import last_attempt
from workflows.store.plan import SweepPlan
from workflows.store.state import SweepFiles, SweepState, derive_state, scan, scorable
from workflows.store.trimming import trimmable
from workflows.sweeps.expand import Sweep

__all__ = ["Backlog"]


@dataclass
class Backlog:
    """The open tasks of a sweep. Tasks are taken, and return as done, failed or lost."""

    plan: SweepPlan
    tasks: SweepTasks
    # The last attempt at a trajectory that took its lease; 0 before the first.
    last_attempt: Callable[[str], int]
    moments: MomentsQueue
    tunings: FineTunings
    tracked: dict[str, TrackedTrajectory]
    edits: bool = True
    ready: WorkQueue[str] = field(default_factory=WorkQueue)
    scores: WorkQueue[ScoreTask] = field(default_factory=WorkQueue)
    known_rows: set[str] = field(default_factory=set)
    totals: Counts = field(default_factory=Counts)
    running_now: int = 0

    @classmethod
    def from_files(cls, sweep: Sweep, storage: Storage, *, editing: Editing = "ahead") -> "Backlog":
        """Scan a sweep's files and return a backlog of what is left; writes nothing."""
        files, plan = scan(storage), sweep.plan
        built = [recipe.key for recipe in plan.recipes if moments_path(recipe.key) in files.moments]
        failed = [recipe.key for recipe in plan.recipes if task_error_path(f"moments-{recipe.key}") in files.errors]
        # Second moments that exist by now can be used.
        moments = MomentsQueue(plan.recipes, built, set(failed) - set(built))

        tracked: dict[str, TrackedTrajectory] = {}
        tasks, tunings = SweepTasks(sweep, paced=editing == "paced"), FineTunings(plan, tracked)
        backlog = cls(plan, tasks, partial(last_attempt, storage), moments, tunings, tracked, editing != "none")
        backlog._fill(files, derive_state(storage, plan, files))
        return backlog

    def _fill(self, files: SweepFiles, state: SweepState) -> None:
        plan = self.plan
        self.totals = Counts(trajectories=len(plan.trajectories), edits=plan.edits, scores=len(plan.bases))
        self.totals.failures = len(state.failures)
        for task in self.tasks.base_scores():
            self._offer(task, files)
        for place, found in enumerate(state.trajectories):
            tracked = TrackedTrajectory(found.plan, place, set(found.published), found.collapsed_at)
            tracked.failed = found.error is not None and not found.is_edited
            tracked.stopped_at = None if found.stopped is None else found.stopped.edits
            tracked.trimmed = tracked.published - files.whole.get(found.plan.id, frozenset())
            self.tracked[found.plan.id] = tracked
            for task in self._scores_of(tracked):
                self._offer(task, files)
        for tracked in self.tracked.values():
            self.tunings.note(tracked)
            if not tracked.is_edited and not tracked.failed:
                self._queue(tracked)
            self._recount(tracked)

    def take(self, preference: Iterable[TaskKind], model: str | None) -> Task | None:
        """Take the next task, trying kinds in the given order (`moments`, `trajectory`, `score`).

        Tasks on the model that a worker holds already come before tasks on another.
        """
        by_kind: dict[TaskKind, Callable[[], Task | None]] = {
            "moments": self._take_moments,
            "trajectory": partial(self._take_trajectory, model),
            "score": partial(self._take_score, model),
        }
        return next((task for kind in preference if (task := by_kind[kind]()) is not None), None)

    def waiting(self) -> dict[TaskKind, int]:
        """Return how many tasks could start now, by kind."""
        return {"moments": len(self.moments), "trajectory": len(self.ready), "score": len(self.scores)}

    def has_open_trajectories(self) -> bool:
        """Return whether any trajectory runs or waits."""
        return bool(self.running_now or len(self.ready) or self.moments.holds_any)

    def is_empty(self) -> bool:
        """Return whether no task is open."""
        return not any(self.waiting().values()) and not self.has_open_trajectories()

    def is_running(self, trajectory_id: str) -> bool:
        """Return whether a trajectory has been handed out and has not returned."""
        return self.tracked[trajectory_id].running

    def is_scored(self, trajectory_id: str, edits: int) -> bool:
        """Return whether all rows of a checkpoint are on storage."""
        return self.tracked[trajectory_id].is_scored(edits)

    def stopped_at(self, trajectory_id: str) -> int | None:
        """Return the edit count at which a watchdog has stopped a trajectory; None if none has."""
        return self.tracked[trajectory_id].stopped_at

    def edits_so_far(self, trajectory_id: str) -> int | None:
        """Return the progress of the running attempt at a trajectory, as last reported."""
        return self.tracked[trajectory_id].running_edits or None

    def put_back(self, task: Task, *, paused: bool = False) -> None:
        """Return a lost task, before all others of its kind, or one that pauses: the same attempt continues it."""
        if isinstance(task, MomentsTask):
            self.moments.put_back(task.recipe)
        elif isinstance(task, TrajectoryTask):
            tracked = self.tracked[task.plan.id]
            self._set_running(tracked, running=False)
            tracked.queued, tracked.paused = True, paused
            self.ready.put_first(task.plan.id, tracked.plan.model_digest)
        elif isinstance(task, ScoreTask):
            self.scores.put_first(task, task.spec.model_digest)

    def moments_done(self, task: MomentsTask) -> None:
        """Note that second moments are built: the trajectories that wait for them can start."""
        for trajectory_id in self.moments.built(task.recipe.key):
            self._queue(self.tracked[trajectory_id])

    def published(self, trajectory_id: str, edits: Iterable[int], *, collapsed: bool = False) -> bool:
        """Note published checkpoints, and queue their scores; return whether any was new."""
        tracked = self.tracked[trajectory_id]
        new = {count for count in edits if tracked.counts(count)} - tracked.published - tracked.damaged
        tracked.published |= new
        if collapsed and tracked.published:
            tracked.collapsed_at = max(tracked.published)
        if new or collapsed:
            for task in self._scores_of(tracked):
                if task.rows_path not in self.known_rows:
                    self.known_rows.add(task.rows_path)
                    self.scores.put(task, task.spec.model_digest)
            self._recount(tracked)
            self.release(trajectory_id)
        return bool(new)

    def release(self, trajectory_id: str) -> None:
        """Queue the fine-tunings of a trajectory that can start now, and end those that never can."""
        for child in self.tunings.waiting(trajectory_id):
            self._queue(child)
            self._recount(child)

    def damaged(self, task: ScoreTask) -> None:
        """Note that a checkpoint is gone: its trajectory runs again from the previous one."""
        if task.trajectory_id is None or not self.tracked[task.trajectory_id].counts(task.edits):
            return
        tracked = self.tracked[task.trajectory_id]
        tracked.published.discard(task.edits)
        tracked.trimmed.discard(task.edits)
        if tracked.collapsed_at == task.edits:
            tracked.collapsed_at = None
        self.known_rows.discard(task.rows_path)
        if tracked.running:
            tracked.damaged.add(task.edits)
        elif not (tracked.failed or tracked.queued):
            self._queue(tracked)
        self._recount(tracked)

    def running(self, trajectory_id: str, edits: int) -> None:
        """Note the progress of a running trajectory."""
        self.tracked[trajectory_id].running_edits = edits
        self._recount(self.tracked[trajectory_id])

    def ended(self, trajectory_id: str, *, failed: bool) -> None:
        """Note that a trajectory no longer runs."""
        tracked = self.tracked[trajectory_id]
        self._set_running(tracked, running=False)
        tracked.failed = failed
        self.totals.failures += failed
        if tracked.damaged and not (failed or tracked.is_edited):
            self._queue(tracked)
        self._recount(tracked)

    def scored(self, task: ScoreTask) -> None:
        """Note that a row file is on storage."""
        if task.trajectory_id is not None:
            tracked = self.tracked[task.trajectory_id]
            if not tracked.counts(task.edits):
                return
            tracked.scored[task.edits] += 1
        self.totals.scores_done += 1

    def to_trim(self, trajectory_id: str) -> list[int]:
        """Return the checkpoints that are neither kept nor required any more; from now on they count as trimmed."""
        tracked = self.tracked[trajectory_id]
        found = trimmable(
            tracked.plan, self.plan.keep, tracked.published, edited=tracked.is_edited, scored=tracked.is_scored
        )
        new = [edits for edits in found if edits not in tracked.trimmed]
        tracked.trimmed.update(new)
        return new

    def stop(self, trajectory_id: str, edits: int) -> None:
        """Note that a watchdog has stopped a trajectory: later checkpoints no longer count."""
        tracked = self.tracked[trajectory_id]
        self.totals.scores_done -= tracked.stop(edits)
        self._recount(tracked)

    def task_failed(self, task: Task) -> None:
        """Note that a task has failed for good; trajectories that wait for its moments fail too."""
        self.totals.failures += 1
        if isinstance(task, MomentsTask):
            for trajectory_id in self.moments.failed(task.recipe.key):
                self._queue(self.tracked[trajectory_id])

    def counts(self) -> Counts:
        """Return the progress of the sweep."""
        return replace(self.totals)

    def _recount(self, tracked: TrackedTrajectory) -> None:
        """Update the totals for one trajectory."""
        before, now = tracked.counted, tracked.share()
        self.totals.trajectories_done += now[0] - before[0]
        self.totals.edits_done += now[1] - before[1]
        self.totals.scores += now[2] - before[2]
        tracked.counted = now

    def _queue(self, tracked: TrackedTrajectory) -> None:
        """Queue a trajectory at its place in the plan, or hold it until its second moments are built.

        If they could not be built, it fails. A fine-tuning waits for its checkpoint.
        """
        if not (self.edits and self.tunings.can_start(tracked)):
            return
        key = tracked.plan.moments
        if self.moments.has_failed(key):
            tracked.queued = False
            self.ended(tracked.plan.id, failed=True)
            return
        tracked.queued = True
        if key is None or self.moments.is_ready(key):
            self.ready.put(tracked.plan.id, tracked.plan.model_digest, tracked.place)
        else:
            self.moments.hold(key, tracked.plan.id)

    def _set_running(self, tracked: TrackedTrajectory, *, running: bool) -> None:
        self.running_now += running - tracked.running
        tracked.running, tracked.running_edits = running, 0

    def _offer(self, task: ScoreTask, files: SweepFiles) -> None:
        if task.rows_path in self.known_rows:
            return
        self.known_rows.add(task.rows_path)
        if task.rows_path in files.rows:
            self.scored(task)
        elif task_error_path(task.name) not in files.errors:
            self.scores.put(task, task.spec.model_digest)

    def _scores_of(self, tracked: TrackedTrajectory) -> Iterable[ScoreTask]:
        checkpoints = scorable(tracked.plan, tracked.published, tracked.collapsed_at)
        return self.tasks.scores(tracked.plan, checkpoints)

    def _take_moments(self) -> MomentsTask | None:
        recipe = self.moments.take()
        return None if recipe is None else self.tasks.moments(recipe)

    def _take_score(self, model: str | None) -> ScoreTask | None:
        while (task := self.scores.take(model)) is not None:
            if task.trajectory_id is None or self.tracked[task.trajectory_id].counts(task.edits):
                return task
        return None

    def _take_trajectory(self, model: str | None) -> TrajectoryTask | None:
        chosen = self.ready.take(model)
        while chosen is not None and self.tracked[chosen].stopped_at is not None:
            chosen = self.ready.take(model)
        if chosen is None:
            return None
        tracked = self.tracked[chosen]
        tracked.queued = False
        self._set_running(tracked, running=True)
        tracked.damaged.clear()
        standing = self.last_attempt(chosen)
        # A lost worker may still take the lease of the attempt that it was given.
        if not (tracked.paused and standing == tracked.attempt):
            tracked.attempt = max(tracked.attempt, standing) + 1
        tracked.paused = False
        return self.tasks.trajectory(tracked.plan, tracked.attempt)
