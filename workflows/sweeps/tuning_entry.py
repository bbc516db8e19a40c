"""The key `afterwards` of a sweep file: what is fine-tuned after editing, and on which texts."""

from typing import Literal

from pydantic import Field, model_validator

from sphere_core.tuning.settings import TuningSettings
from workflows.sweeps.resources import Part

__all__ = ["AfterwardsEntry", "TuningDataEntry"]

_NAMES = {"lora": "LoRA", "dora": "DoRA", "full": "full fine-tuning"}


class TuningDataEntry(Part):
    """The texts of a fine-tuning."""

    corpus: str | tuple[str, ...] | None = Field(
        default=None,
        description="Text, JSONL or Parquet files, a hub id, or `factworld`: facts of its people",
    )
    people: int | None = Field(
        default=None, ge=0, description="In place of `corpus`: facts of people of another fact world, of this seed"
    )
    texts: int = Field(ge=1, le=10**8, description="Texts taken, from the start")
    field: str = Field(default="text", description="Field that holds the text, or the answer, in JSONL and Parquet")
    prompt_field: str | None = Field(
        default=None, description="JSONL only: field of a prompt, which is read and not predicted"
    )
    config: str | None = Field(default=None, description="Configuration of a hub corpus")
    revision: str | None = Field(default=None, description="Commit of a hub corpus")
    mentions: Literal["any", "none", "edited"] = Field(
        default="any", description="Take any text, only those without an edited subject, or only those with one"
    )
    old_answers: bool = Field(
        default=False, description="With `mentions: edited`: keep texts that hold the old answer of their subject"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "TuningDataEntry":
        if (self.corpus is None) == (self.people is None):
            raise ValueError("give either `corpus` or `people`")
        return self


class AfterwardsEntry(Part):
    """A fine-tuning of checkpoints of every trajectory of the grid."""

    finetune: TuningSettings = Field(description="Adapters or weights, rate, steps")
    data: TuningDataEntry = Field(description="What it is trained on")
    checkpoints: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="Edit counts of the checkpoints that are fine-tuned; default: the last"
    )
    checkpoint_every: int | None = Field(
        default=None, ge=1, description="Steps between two checkpoints; the last step is always one; default: only it"
    )
    label: str | None = Field(default=None, max_length=60, description="Name in tables; default: from the settings")

    @property
    def title(self) -> str:
        """The name in tables, after the method's."""
        if self.label is not None:
            return self.label
        where = {"all": "", "edited": " of the edited layers", "others": " of the other layers"}
        return f"{_NAMES[self.finetune.method]}{where[self.finetune.layers]}"

    @property
    def wanted(self) -> tuple[int, ...]:
        """The steps whose checkpoints are kept and scored."""
        steps = self.finetune.steps
        every = self.checkpoint_every or steps
        return (*range(every, steps, every), steps)
