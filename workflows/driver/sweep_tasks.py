"""The tasks of a sweep: from entries of its plan to the input of a replica."""

from collections.abc import Iterable, Iterator
from typing import Literal

from workflows.replicas.tasks import MomentsTask, ScoreTask, TrajectoryTask
from workflows.store.plan import MomentsRecipe, TrajectoryPlan
from workflows.sweeps.expand import Sweep

__all__ = ["Editing", "SweepTasks"]

# Whether trajectories run on while their scores wait, pause at every wanted checkpoint until it is scored, or stay.
Editing = Literal["ahead", "paced", "none"]


class SweepTasks:
    """Makes tasks; each carries the specification, settings and files that its replica requires."""

    def __init__(self, sweep: Sweep, *, paced: bool = False) -> None:
        """`paced`: trajectories pause at every wanted checkpoint."""
        self._sweep = sweep
        self._paced = paced
        self._code = {found.row: found.plugin for found in sweep.plan.plugins if found.kind == "evaluator"}

    def moments(self, recipe: MomentsRecipe) -> MomentsTask:
        """Return the task that builds second moments."""
        return MomentsTask(recipe, self._sweep.specs[recipe.trajectory])

    def trajectory(self, plan: TrajectoryPlan, attempt: int) -> TrajectoryTask:
        """Return the task of one attempt at a trajectory."""
        return TrajectoryTask(plan, self._sweep.specs[plan.id], attempt, self._sweep.moments_file, self._paced)

    def scores(self, plan: TrajectoryPlan, checkpoints: Iterable[int]) -> Iterator[ScoreTask]:
        """Yield the tasks that score these checkpoints of a trajectory, in their order."""
        spec, moments = self._sweep.specs[plan.id], self._sweep.moments_file
        for edits in sorted(checkpoints):
            for evaluation in plan.evaluations:
                settings = self._sweep.evaluators[evaluation.kind]
                code = self._code.get(evaluation.kind)
                yield ScoreTask(plan, spec, edits, evaluation, settings, moments, code)

    def base_scores(self) -> Iterator[ScoreTask]:
        """Yield the tasks that score the unedited models."""
        for base in self._sweep.plan.bases:
            settings = self._sweep.evaluators[base.evaluation.kind]
            spec, code = self._sweep.specs[base.trajectory], self._code.get(base.evaluation.kind)
            yield ScoreTask(base, spec, 0, base.evaluation, settings, plugin=code)
