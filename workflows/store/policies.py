"""What a sweep file may set that changes no number: which checkpoints stay whole, and when to stop a trajectory."""

import re
from collections.abc import Collection
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Keep", "Watchdog"]


class Keep(BaseModel):
    """What a sweep file's `keep` says: `all`, `last N` or `every K`; the final checkpoint always stays whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    last: int | None = Field(default=None, description="The last so many checkpoints")
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
        """Return whether a checkpoint stays whole, out of all that are published."""
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
    """When to stop a trajectory: limits on what its checkpoints' scores say. Changes no identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    he_drift: float | None = Field(default=None, gt=0, description="Largest |HE drift|, mean over sites")
    collapsed_checkpoints: int | None = Field(
        default=None, ge=1, description="How many checkpoints may have a collapsed score before it is enough"
    )

    @model_validator(mode="after")
    def _watches_something(self) -> Self:
        if self.he_drift is None and self.collapsed_checkpoints is None:
            raise ValueError("give `he_drift`, `collapsed_checkpoints` or both")
        return self
