"""What general ability is measured with. Loads neither torch nor the harness: a sweep file is checked at once."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

__all__ = ["GeneralAbilitySettings", "TaskEntry"]


class TaskEntry(BaseModel):
    """A task, with settings that replace its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = Field(description="Name of the task, group, tag, preset or suite, or a path")
    limit: PositiveInt | None = Field(default=None, description="First N documents")
    num_fewshot: NonNegativeInt | None = Field(default=None, description="Examples in the prompt")


class GeneralAbilitySettings(BaseModel):
    """General ability, by lm-evaluation-harness."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["general"] = "general"
    tasks: tuple[str | TaskEntry, ...] = Field(
        min_length=1,
        description="Presets, shipped suites, folders of task YAMLs, single YAML files, or tasks, groups and tags of "
        "lm-eval by name; as a mapping for settings per task",
    )
    include_path: tuple[str, ...] = Field(
        default=(), description="Folders of YAMLs whose tasks can be named in `tasks`"
    )
    corpus: str | None = Field(
        default=None, description="Text or JSONL file that `perplexity` reads; default: WikiText-2"
    )
    batch_size: PositiveInt = Field(default=64, description="Rows of one forward pass")
    limit: PositiveInt | None = Field(
        default=None, description="First N documents of each task that has no limit of its own"
    )
    trust_task_code: bool = Field(
        default=False,
        description="Run Python that task files of a user name; given by `--trust-task-code`, never by a sweep file",
    )

    def entries(self) -> list[TaskEntry]:
        """Return the entries of `tasks` with the common limit where they have none of their own."""
        plain = (TaskEntry(task=entry) if isinstance(entry, str) else entry for entry in self.tasks)
        return [entry if entry.limit is not None else entry.model_copy(update={"limit": self.limit}) for entry in plain]
