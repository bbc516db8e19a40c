"""Settings of a sweep that change no number: which checkpoints keep their tensors, and when to stop a trajectory."""

import re
from collections.abc import Collection
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Keep", "Watchdog"]


class Keep(BaseModel):
    """A sweep file's `keep`: `all`, `last N` or `every K`; the final checkpoint always keeps its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: int | None = Field(default=None, description="The last N checkpoints")
    every: int | None = Field(default=None, description="Those whose edit count is a multiple of this")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"all|(last|every) ([1-9]\d*)", value)
        if found is None:
            raise ValueError(f"'{value}' is none of `all`, `last N` (checkpoints) and `every K` (edits)")
        return {} if value == "all" else {found[1]: int(found[2])}

    def keeps(self, edits: int, published: Collection[int]) -> bool:
        """Return whether a checkpoint keeps its tensors, given all published ones."""
        if edits == max(published):
            return True
        if self.last is not None:
            return edits in sorted(published)[-self.last :]
        return self.every is None or edits % self.every == 0

    @property
    def text(self) -> str:
        """The policy as it is written in a sweep file."""
        if self.last is not None:
            return f"last {self.last}"
        return "all" if self.every is None else f"every {self.every}"


class Watchdog(BaseModel):
    """When to stop a trajectory: limits on the scores of its checkpoints. Changes no identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    he_drift: float | None = Field(default=None, gt=0, description="Largest |HE drift|, mean over sites")
    collapsed_checkpoints: int | None = Field(
        default=None, ge=1, description="Number of checkpoints with a collapsed score that stops the trajectory"
    )

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        if self.he_drift is None and self.collapsed_checkpoints is None:
            raise ValueError("give `he_drift`, `collapsed_checkpoints` or both")
        return self
