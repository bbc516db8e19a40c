"""What is left to do, in order: moments first, then trajectories, and scores as soon as a checkpoint stands.

The board starts from the files of a sweep and follows the events of one run. It decides nothing by itself that a new
look at the files would not decide as well: a checkpoint that is there and has no rows is to be scored.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sphere_core.storage import Storage
from workflows.expand import Sweep
from workflows.layout import moments_path, task_error_path
from workflows.lease import read_lease
from workflows.plan import BasePlan, MomentsRecipe, TrajectoryPlan
from workflows.state import SweepFiles, SweepState, derive_state, scan, scorable
from workflows.tasks import MomentsTask, ScoreTask, Task, TrajectoryTask

__all__ = ["Board", "Counts"]


@dataclass
class Counts:
    """How far a sweep is."""

    trajectories: int = 0
    trajectories_done: int = 0
    edits: int = 0
    edits_done: int = 0
    scores: int = 0
    scores_done: int = 0
    failures: int = 0


@dataclass
class _Tracked:
    plan: TrajectoryPlan
    published: set[int]
    collapsed_at: int | None
    running: bool = False
    failed: bool = False
    running_edits: int = 0

    @property
    def is_edited(self) -> bool:
        return self.collapsed_at is not None or set(self.plan.wanted) <= self.published

    @property
    def edits_done(self) -> int:
        if self.is_edited:
            return self.plan.edits
        return max([self.running_edits, *self.published, 0])

    @property
    def scores_expected(self) -> int:
        checkpoints = len(self.plan.wanted)
        if self.failed or self.collapsed_at is not None:
            checkpoints = len(scorable(self.plan, self.published, self.collapsed_at))
        return checkpoints * len(self.plan.evaluations)


@dataclass
class Board:
    """The open work of a sweep. Tasks are taken, and come back as done, failed or lost."""

    sweep: Sweep
    storage: Storage
    tracked: dict[str, _Tracked] = field(default_factory=dict)
    recipes: deque[MomentsRecipe] = field(default_factory=deque)
    trajectories: deque[str] = field(default_factory=deque)
    scores: deque[ScoreTask] = field(default_factory=deque)
    moments: set[str] = field(default_factory=set)
    broken_moments: set[str] = field(default_factory=set)
    known_rows: set[str] = field(default_factory=set)
    rows_done: int = 0
    failures: int = 0

    @classmethod
    def from_files(cls, sweep: Sweep, storage: Storage) -> "Board":
        """Look at a sweep's files and put everything that is left on the board."""
        files = scan(storage)
        board = cls(sweep, storage)
        board._fill(files, derive_state(storage, sweep.plan, files))
        return board

    def _fill(self, files: SweepFiles, state: SweepState) -> None:
        self.known_rows = set()
        self.failures = len(state.failures)
        for recipe in self.sweep.plan.recipes:
            if moments_path(recipe.key) in files.moments:
                self.moments.add(recipe.key)
            elif task_error_path(f"moments-{recipe.key}") in files.errors:
                self.broken_moments.add(recipe.key)
        for base in self.sweep.plan.bases:
            self._offer(self._base_task(base), files)
        for found in state.trajectories:
            tracked = _Tracked(found.plan, set(found.published), found.collapsed_at)
            tracked.failed = found.error is not None and not found.is_edited
            self.tracked[found.plan.id] = tracked
            for task in self._score_tasks(tracked):
                self._offer(task, files)
            if not tracked.is_edited and not tracked.failed:
                self.trajectories.append(found.plan.id)
        needed = {self.tracked[key].plan.moments for key in self.trajectories}
        for recipe in self.sweep.plan.recipes:
            if recipe.key in needed and recipe.key not in self.moments | self.broken_moments:
                self.recipes.append(recipe)

    def take(self, preference: Iterable[str], model: str | None) -> Task | None:
        """Take the next task, trying kinds in the order given (`moments`, `trajectory`, `score`).

        Work on the model a worker holds already comes before work on another.
        """
        for kind in preference:
            task: Task | None = None
            if kind == "moments":
                task = self._take_moments()
            elif kind == "trajectory":
                task = self._take_trajectory(model)
            elif kind == "score":
                task = self._take_score(model)
            if task is not None:
                return task
        return None

    def waiting(self) -> dict[str, int]:
        """Return how many tasks could start now, by kind."""
        ready = sum(1 for key in self.trajectories if self._has_moments(self.tracked[key].plan))
        return {"moments": len(self.recipes), "trajectory": ready, "score": len(self.scores)}

    def has_open_trajectories(self) -> bool:
        """Tell whether any trajectory runs or waits."""
        return bool(self.trajectories) or any(tracked.running for tracked in self.tracked.values())

    def put_back(self, task: Task) -> None:
        """Put a lost task back, before all others of its kind."""
        if isinstance(task, MomentsTask):
            self.recipes.appendleft(task.recipe)
        elif isinstance(task, TrajectoryTask):
            self.tracked[task.plan.id].running = False
            self.trajectories.appendleft(task.plan.id)
        else:
            self.scores.appendleft(task)

    def moments_done(self, task: MomentsTask) -> None:
        """Note that second moments stand: the trajectories that wait for them can start."""
        self.moments.add(task.recipe.key)

    def published(self, trajectory_id: str, edits: Iterable[int], *, collapsed: bool = False) -> bool:
        """Note checkpoints that stand, and queue their scores; return whether any was new."""
        tracked = self.tracked[trajectory_id]
        new = set(edits) - tracked.published
        tracked.published |= new
        if collapsed and tracked.published:
            tracked.collapsed_at = max(tracked.published)
        for task in self._score_tasks(tracked):
            if task.rows_path not in self.known_rows:
                self.known_rows.add(task.rows_path)
                self.scores.append(task)
        return bool(new)

    def damaged(self, task: ScoreTask) -> None:
        """Note that a checkpoint is gone: its trajectory is to be run again from the one before."""
        tracked = self.tracked[str(task.subject_id)]
        tracked.published.discard(task.edits)
        if tracked.collapsed_at == task.edits:
            tracked.collapsed_at = None
        self.known_rows.discard(task.rows_path)
        if not tracked.running and not tracked.failed and tracked.plan.id not in self.trajectories:
            self.trajectories.append(tracked.plan.id)

    def running(self, trajectory_id: str, edits: int) -> None:
        """Note how far a running trajectory is."""
        self.tracked[trajectory_id].running_edits = edits

    def ended(self, trajectory_id: str, *, failed: bool) -> None:
        """Note that a trajectory no longer runs."""
        tracked = self.tracked[trajectory_id]
        tracked.running, tracked.running_edits = False, 0
        tracked.failed = failed
        self.failures += failed

    def scored(self) -> None:
        """Note that a row file stands."""
        self.rows_done += 1

    def task_failed(self, task: Task) -> None:
        """Note that building moments or scoring has failed for good."""
        self.failures += 1
        if isinstance(task, MomentsTask):
            self.broken_moments.add(task.recipe.key)

    def blocked(self) -> list[str]:
        """Return the trajectories that can never start, because their second moments could not be built."""
        return [key for key in self.trajectories if self.tracked[key].plan.moments in self.broken_moments]

    def counts(self) -> Counts:
        """Return how far the sweep is."""
        tracked = self.tracked.values()
        return Counts(
            trajectories=len(self.tracked),
            trajectories_done=sum(t.is_edited for t in tracked),
            edits=sum(t.plan.edits for t in tracked),
            edits_done=sum(t.edits_done for t in tracked),
            scores=sum(t.scores_expected for t in tracked) + len(self.sweep.plan.bases),
            scores_done=self.rows_done,
            failures=self.failures,
        )

    def _offer(self, task: ScoreTask, files: SweepFiles) -> None:
        if task.rows_path in self.known_rows:
            return
        self.known_rows.add(task.rows_path)
        if task.rows_path in files.rows:
            self.rows_done += 1
        elif task_error_path(task.name) not in files.errors:
            self.scores.append(task)

    def _score_tasks(self, tracked: _Tracked) -> Iterator[ScoreTask]:
        plan = tracked.plan
        for edits in sorted(scorable(plan, tracked.published, tracked.collapsed_at)):
            for evaluation in plan.evaluations:
                settings = self.sweep.evaluators[evaluation.kind]
                yield ScoreTask(plan, self.sweep.specs[plan.id], edits, evaluation, settings)

    def _base_task(self, base: BasePlan) -> ScoreTask:
        settings = self.sweep.evaluators[base.evaluation.kind]
        return ScoreTask(base, self.sweep.specs[base.trajectory], 0, base.evaluation, settings)

    def _take_moments(self) -> MomentsTask | None:
        if not self.recipes:
            return None
        recipe = self.recipes.popleft()
        return MomentsTask(recipe, self.sweep.specs[recipe.trajectory])

    def _take_trajectory(self, model: str | None) -> TrajectoryTask | None:
        ready = [key for key in self.trajectories if self._has_moments(self.tracked[key].plan)]
        if not ready:
            return None
        chosen = next((key for key in ready if self.tracked[key].plan.model_digest == model), ready[0])
        self.trajectories.remove(chosen)
        tracked = self.tracked[chosen]
        tracked.running = True
        standing = read_lease(self.storage, chosen)
        attempt = 1 if standing is None else standing.attempt + 1
        return TrajectoryTask(tracked.plan, self.sweep.specs[chosen], attempt, self.sweep.moments_file)

    def _take_score(self, model: str | None) -> ScoreTask | None:
        if not self.scores:
            return None
        place = next((i for i, task in enumerate(self.scores) if task.spec.model_digest == model), 0)
        chosen = self.scores[place]
        del self.scores[place]
        return chosen

    def _has_moments(self, plan: TrajectoryPlan) -> bool:
        return plan.moments is None or plan.moments in self.moments
