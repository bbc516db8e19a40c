"""Which checkpoints of a trajectory stay whole: all, the last few, or one every so many edits."""

import re
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Keep"]


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
        """Tell whether a checkpoint stays whole, out of all that are published."""
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
