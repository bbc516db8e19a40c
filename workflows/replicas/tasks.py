"""The tasks that a replica accepts, and their outcomes: plain data that crosses process boundaries."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sphere_core.foundation.work_progress import Position
from sphere_core.plugins.reference import PluginReference
from sphere_core.trajectory_spec import TrajectorySpec
from workflows.moments.work import ModelName, MomentsWork
from workflows.store.layout import base_name, error_path, scored_name, task_error_path
from workflows.store.plan import BasePlan, Evaluation, MomentsRecipe, TrajectoryPlan
from workflows.store.records import Failure

__all__ = [
    "BrokenReplicaError",
    "Damaged",
    "Done",
    "Failed",
    "MomentsShardTask",
    "MomentsTask",
    "OutOfMemory",
    "Outcome",
    "ReplicaProgress",
    "ScoreTask",
    "Stopped",
    "StorageFailed",
    "Superseded",
    "Task",
    "TaskKind",
    "TrajectoryTask",
]

TaskKind = Literal["moments", "trajectory", "score"]


@dataclass(frozen=True)
class MomentsTask:
    """Build second moments. `spec` names the model."""

    kind: ClassVar[TaskKind] = "moments"
    trajectory_id: ClassVar[str | None] = None
    recipe: MomentsRecipe
    spec: TrajectorySpec

    @property
    def name(self) -> str:
        """The task's name in errors and logs."""
        return f"moments-{self.recipe.key}"

    @property
    def title(self) -> str:
        """The task in words."""
        return f"second moments of layers {', '.join(map(str, self.recipe.layers))}"

    @property
    def error_path(self) -> str:
        """The path of its error record."""
        return task_error_path(self.name)


@dataclass(frozen=True)
class MomentsShardTask:
    """Sum every `shards`-th group of a corpus, beginning with group `shard`."""

    kind: ClassVar[TaskKind] = "moments"
    trajectory_id: ClassVar[str | None] = None
    work: MomentsWork
    shard: int
    shards: int

    @property
    def spec(self) -> ModelName:
        """The model it needs."""
        return self.work.model

    @property
    def name(self) -> str:
        """The task's name in errors and logs."""
        return f"moments-{self.work.key}-shard-{self.shard}"

    @property
    def title(self) -> str:
        """The task in words."""
        return f"second moments, part {self.shard + 1} of {self.shards}"

    @property
    def error_path(self) -> str:
        """The path of its error record."""
        return task_error_path(self.name)


@dataclass(frozen=True)
class TrajectoryTask:
    """Run a trajectory from its newest usable checkpoint to its end, publishing the wanted ones.

    `attempt` fences: of two replicas on one trajectory, only the one with the larger attempt may publish. `pauses`: it
    returns at every wanted checkpoint, so that this is scored before editing continues.
    """

    kind: ClassVar[TaskKind] = "trajectory"
    plan: TrajectoryPlan
    spec: TrajectorySpec
    attempt: int
    moments_file: str | None
    pauses: bool = False

    @property
    def trajectory_id(self) -> str:
        """The trajectory that is run."""
        return self.plan.id

    @property
    def name(self) -> str:
        """The task's name in errors and logs."""
        return f"trajectory-{self.plan.id}"

    @property
    def title(self) -> str:
        """The task in words."""
        return f"{'editing' if self.plan.parent is None else 'fine-tuning'} {_trajectory_title(self.plan)}"

    @property
    def error_path(self) -> str:
        """The path of its error record."""
        return error_path(self.plan.id)


@dataclass(frozen=True)
class ScoreTask:
    """Score one checkpoint, or the unedited model, with one evaluator.

    `edits` is the checkpoint's position: its edit count, or the optimiser steps of a fine-tuning.
    `moments_file` are imported second moments, for evaluators that read them; `plugin` is the code of an evaluator
    that is not part of the release.
    """

    kind: ClassVar[TaskKind] = "score"
    subject: TrajectoryPlan | BasePlan
    spec: TrajectorySpec
    edits: int
    evaluation: Evaluation
    settings: Mapping[str, Any]
    moments_file: str | None = None
    plugin: PluginReference | None = None

    @property
    def trajectory_id(self) -> str | None:
        """The trajectory whose checkpoint is scored; None for an unedited model."""
        return self.subject.id if isinstance(self.subject, TrajectoryPlan) else None

    @property
    def subject_name(self) -> str:
        """The subject's name among rows and timings."""
        if isinstance(self.subject, BasePlan):
            return base_name(self.subject.model_digest)
        return scored_name(self.subject.id, self.edits)

    @property
    def previous_edits(self) -> int | None:
        """Position of the previous wanted checkpoint; None if it is the unedited model, or what is fine-tuned."""
        if isinstance(self.subject, BasePlan):
            return None
        return max((edits for edits in self.subject.wanted if edits < self.edits), default=None)

    @property
    def rows_path(self) -> str:
        """The file of rows this task makes."""
        if isinstance(self.subject, BasePlan):
            return self.subject.rows_path
        return self.subject.rows_path(self.edits, self.evaluation)

    @property
    def name(self) -> str:
        """The task's name in errors and logs."""
        return f"{self.evaluation.kind}-{self.subject_name}-{self.evaluation.id}"

    @property
    def title(self) -> str:
        """The task in words."""
        kind = _KINDS.get(self.evaluation.kind, self.evaluation.kind)
        if isinstance(self.subject, BasePlan):
            return f"{kind} of {self.subject.model}, unedited"
        steps = self.subject.steps_at(self.edits)
        at = f"{self.edits} edits" if steps is None else f"{steps} steps"
        return f"{kind} of {_trajectory_title(self.subject)} at {at}"

    @property
    def error_path(self) -> str:
        """The path of its error record."""
        return task_error_path(self.name)


_KINDS = {"edit_quality": "edit quality", "general": "general ability"}


def _trajectory_title(plan: TrajectoryPlan) -> str:
    return f"{plan.model} {plan.title} seed {plan.seed}"


Task = MomentsTask | MomentsShardTask | TrajectoryTask | ScoreTask


@dataclass(frozen=True)
class Done:
    """The task is finished. For a trajectory: the published checkpoints, and whether it collapsed."""

    published: tuple[int, ...] = ()
    collapsed: bool = False


@dataclass(frozen=True)
class Stopped:
    """A trajectory has published its last batch and was stopped: on request, or (`paused`) until that is scored."""

    published: tuple[int, ...] = ()
    paused: bool = False


@dataclass(frozen=True)
class Superseded:
    """Another replica has taken the trajectory over; this one has published nothing since."""

    by: str


@dataclass(frozen=True)
class Failed:
    """The task raised an error; repeating it would raise it again."""

    error: str
    message: str
    traceback: str
    edits: int | None = None

    def record(self, task: Task) -> Failure:
        """Return the record to store."""
        return Failure(
            task=task.name, error=self.error, message=self.message, edits=self.edits, traceback=self.traceback
        )


@dataclass(frozen=True)
class Damaged:
    """The checkpoint to score did not match its manifest, or was missing; what was left of it has been removed."""

    reason: str


@dataclass(frozen=True)
class OutOfMemory:
    """The task required more memory than there is; nothing of it has been published."""

    message: str


@dataclass(frozen=True)
class StorageFailed:
    """Storage is full or fails repeatedly; nothing more can be published."""

    reason: str


Outcome = Done | Stopped | Superseded | Failed | Damaged | OutOfMemory | StorageFailed


@dataclass(frozen=True)
class ReplicaProgress:
    """What a replica is doing now: `task` is the task's name and `title` the same in words, None if it is idle.

    `edits` of `of` are done; for second moments, tokens or texts. `published` are checkpoints on storage.
    `waits_for` names what a task waits for. `within` is how far a batch or the like is, `signs` its signs of life.
    """

    task: str | None = None
    kind: TaskKind | None = None
    trajectory_id: str | None = None
    edits: int = 0
    of: int = 0
    published: tuple[int, ...] = ()
    waits_for: str | None = None
    title: str | None = None
    within: Position | None = None
    signs: int = 0

    @classmethod
    def at(
        cls, task: Task, edits: int = 0, of: int = 0, published: tuple[int, ...] = (), waits_for: str | None = None
    ) -> "ReplicaProgress":
        """Return the progress of a replica with a task."""
        return cls(task.name, task.kind, task.trajectory_id, edits, of, published, waits_for, task.title)

    @property
    def editing(self) -> str | None:
        """The trajectory that is being edited; None for other work, which cannot be stopped."""
        return self.trajectory_id if self.kind == "trajectory" and self.waits_for is None else None


class BrokenReplicaError(RuntimeError):
    """This process cannot continue: its accelerator has failed and stays failed until the process ends."""
