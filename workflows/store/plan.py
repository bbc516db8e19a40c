"""The plan of a sweep: every trajectory, every checkpoint to score and every evaluator, as plain data.

A plan is made from a sweep file by `workflows.sweeps.expand` and stored as `plan.json` below the sweep's root, so that
status and tables require neither the sweep file nor the models. It never records what is done: that is derived from the
files (`workflows.store.state`).
"""

import shlex
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError, model_validator

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.storage import Storage
from sphere_core.hyperparameters.places import Place
from sphere_core.plugins.reference import PluginReference
from workflows.store.corpus import Corpus
from workflows.store.layout import PLAN_FILE, base_name, rows_path, scored_name
from workflows.store.policies import Keep, Watchdog

__all__ = [
    "BasePlan",
    "Evaluation",
    "MomentsRecipe",
    "ParentCheckpoint",
    "PublishedEntry",
    "RowOfPlugin",
    "SweepPlan",
    "TrajectoryPlan",
    "TuningData",
    "read_plan",
]

PLAN_FORMAT = 1


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Evaluation(_Record):
    """An evaluator with its settings, and the id under which its rows are stored."""

    kind: str
    id: str


class ParentCheckpoint(_Record):
    """The checkpoint that a fine-tuning starts from."""

    trajectory: str
    edits: int
    tuning: str = Field(description="The fine-tuning's name in tables")


class TuningData(_Record):
    """The texts of a fine-tuning: where they are read, how many are taken, and which are left out."""

    corpus: Corpus | None = Field(default=None, description="A corpus; None: people of another fact world")
    people: int | None = Field(default=None, description="Seed of that world")
    prompt_field: str | None = Field(default=None, description="Field that is read and not predicted")
    texts: int = Field(ge=1, description="Texts taken")
    mentions: Literal["any", "none", "edited"] = Field(description="Which texts, by the edited subjects they hold")
    old_answers: bool = Field(description="Whether texts with an edited subject and its old answer are kept")

    def identity(self) -> dict[str, Any]:
        """Return what identifies the texts, beside the edits that they are chosen by."""
        source = {"people": self.people} if self.corpus is None else self.corpus.identity()
        chosen = self.model_dump(mode="json", exclude={"corpus", "people"}, exclude_defaults=True)
        return {"source": source, **chosen}


class TrajectoryPlan(_Record):
    """One trajectory: its names in tables, the wanted checkpoints, its evaluations.

    The fine-tuning of a checkpoint is a trajectory of its own, with that checkpoint as `parent` and `tuning` as its
    texts: its positions are optimiser steps, and `edits` are those of the trajectory that it follows.
    """

    id: str
    model: str = Field(description="The model's name in tables")
    model_digest: str
    dtype: str
    title: str = Field(description="The method's name in tables")
    method: str
    editor: str
    regularizer: str | None
    dataset: str
    order: str
    seed: int
    batch_size: int
    own_batches: bool = Field(default=False, description="Whether methods of the sweep differ in their batch size")
    edits: int
    stream_digest: str
    wanted: tuple[int, ...] = Field(description="Positions whose checkpoints are kept and scored: edits, or steps")
    moments: str | None = Field(description="Key of the recipe that is built first; None if moments are imported")
    keep_keys: bool = Field(default=False, description="Whether the key of every edit is stored")
    axes: dict[str, Any] = Field(default_factory=dict, description="Its values of the grids of the sweep file, by axis")
    evaluations: tuple[Evaluation, ...]
    parent: ParentCheckpoint | None = Field(default=None, description="The checkpoint that is fine-tuned")
    tuning: TuningData | None = Field(default=None, description="The texts of the fine-tuning")
    code: tuple[str, ...] = Field(
        default=(),
        description="The data set's reader and the model's family where plugins bring them: dataset/NAME, family/NAME",
    )
    tuned_at: tuple[int, ...] = Field(default=(), description="Edit counts of checkpoints that are fine-tuned")

    def rows_path(self, position: int, evaluation: Evaluation) -> str:
        """Return the row file of one of this trajectory's checkpoints."""
        return rows_path(evaluation.kind, scored_name(self.id, position), evaluation.id)

    @property
    def length(self) -> int:
        """The last position: edits, or optimiser steps of a fine-tuning."""
        return self.wanted[-1]

    def edits_at(self, position: int) -> int:
        """Return the edits that were written before a position's checkpoint."""
        return position if self.parent is None else self.parent.edits

    def steps_at(self, position: int) -> int | None:
        """Return the optimiser steps of a checkpoint of a fine-tuning; None for others."""
        return None if self.parent is None else position


class BasePlan(_Record):
    """The unedited model under one evaluator: scored once, shared by all trajectories that start from it."""

    model: str
    model_digest: str
    dtype: str
    layers: tuple[Place, ...]
    dataset: str | None = Field(description="For edit quality: the stream whose requests are scored")
    order: str | None
    seed: int | None
    stream_digest: str | None
    evaluation: Evaluation
    trajectory: str = Field(description="A trajectory that starts here; it names the model and the stream")

    @property
    def rows_path(self) -> str:
        """The row file of the unedited model."""
        return rows_path(self.evaluation.kind, base_name(self.model_digest), self.evaluation.id)


class MomentsRecipe(_Record):
    """Second moments to build before trajectories start: one pass over a corpus, for all layers of the sweep."""

    key: str
    corpus: Corpus
    sentences: int | None
    tokens: int | None
    max_tokens_per_text: int
    layers: tuple[int, ...]
    gradients: bool = Field(default=False, description="Whether each forward is followed by a backward")
    trajectory: str = Field(description="A trajectory that waits for them; it names the model")


class PublishedEntry(_Record):
    """Numbers of a paper for one model, data set and edit count, as shares, for comparison in tables.

    They enter no computation.
    """

    source: str = Field(description="Source of the numbers: paper and table")
    model: str = Field(description="The model's name in tables")
    dataset: str = Field(description="Schema of the data set")
    edits: int = Field(ge=1, description="After how many edits")
    protocol: str = Field(description="Protocol the numbers are compared under")
    metrics: tuple[str, ...] = Field(min_length=1, description="What each list of values holds")
    values: dict[str, tuple[float | None, ...]] = Field(
        description="Values by the method's name in tables; '(unedited)' is the model before any edit"
    )
    tolerance: tuple[NonNegativeFloat, ...] | None = Field(
        default=None,
        description="Per metric, the difference that counts as equal in a report's ledger; default: its --tolerance",
    )
    against: str | None = Field(
        default=None,
        description="A figure of geometry, `he_drift`: values are then Spearman's correlations of it with the metrics",
    )

    @model_validator(mode="after")
    def _one_value_a_metric(self) -> "PublishedEntry":
        for method, values in self.values.items():
            if len(values) != len(self.metrics):
                raise ValueError(f"'{method}' has {len(values)} values for {len(self.metrics)} metrics")
        if self.tolerance is not None and len(self.tolerance) != len(self.metrics):
            raise ValueError(f"tolerance has {len(self.tolerance)} values for {len(self.metrics)} metrics")
        return self


class RowOfPlugin(_Record):
    """A row that is not part of the release, and the code that brings it."""

    kind: str = Field(description="editor, regularizer, evaluator, dataset or family")
    row: str
    plugin: PluginReference


class SweepPlan(_Record):
    """All of a sweep."""

    format: int = PLAN_FORMAT
    name: str
    trajectories: tuple[TrajectoryPlan, ...]
    bases: tuple[BasePlan, ...]
    recipes: tuple[MomentsRecipe, ...]
    published: tuple[PublishedEntry, ...] = ()
    keep: Keep = Field(default=Keep(), description="Which checkpoints stay whole; changes no number")
    watchdog: Watchdog | None = Field(default=None, description="When to stop a trajectory; changes no identity")
    plugins: tuple[RowOfPlugin, ...] = Field(default=(), description="Rows that are not part of the release")
    overrides: tuple[str, ...] = Field(default=(), description="Values that `--set` gave in place of the sweep file's")

    def code_of(self, trajectory: TrajectoryPlan) -> dict[str, PluginReference]:
        """Return the plugins that a trajectory's method, data set and model use, by row; empty if all is released."""
        rows = {found.row: found.plugin for found in self.plugins if found.kind in ("editor", "regularizer")}
        others = {f"{found.kind}/{found.row}": found.plugin for found in self.plugins}
        used = {part: rows[part] for part in trajectory.method.split("+") if part in rows}
        return used | {name: others[name] for name in trajectory.code if name in others}

    @property
    def set_options(self) -> str:
        """The options that gave the overrides, as they are written on a command line; empty without any."""
        return shlex.join(part for override in self.overrides for part in ("--set", override))

    @property
    def published_scores(self) -> tuple[PublishedEntry, ...]:
        """The published entries that hold scores."""
        return tuple(entry for entry in self.published if entry.against is None)

    @property
    def published_correlations(self) -> tuple[PublishedEntry, ...]:
        """The published entries that hold correlations with a figure of geometry."""
        return tuple(entry for entry in self.published if entry.against is not None)

    @property
    def edits(self) -> int:
        """Edits of all trajectories together; a fine-tuning has none of its own."""
        return sum(trajectory.edits for trajectory in self.trajectories if trajectory.parent is None)


def read_plan(storage: Storage) -> SweepPlan:
    """Read the plan below a sweep's root; raises InputError if there is none, or if it is damaged."""
    try:
        data = storage.read_bytes(PLAN_FILE)
    except FileNotFoundError as error:
        raise InputError(
            "no sweep here: there is no plan.json",
            where=storage.uri,
            remedy="give the folder of a sweep (runs/NAME), or start one with 'sphere run SWEEP'",
        ) from error
    try:
        return SweepPlan.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(
            f"the plan of this sweep is damaged: {fault['msg']}",
            where=f"{storage.uri}/{PLAN_FILE}",
            remedy="run 'sphere run SWEEP' again: it writes the plan again and keeps what is done",
        ) from error
