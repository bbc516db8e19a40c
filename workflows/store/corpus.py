"""The identity of a text corpus as plain data, so that plans can be read without anything that reads texts."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["WIKIPEDIA", "WITH_FIELDS", "Corpus"]

# The corpus of MEMIT's released statistics, and of those built here unless another is named.
WIKIPEDIA = "wikimedia/wikipedia"
# Files whose rows have fields; any other holds one text per line.
WITH_FIELDS = (".parquet", ".jsonl", ".ndjson")


class Corpus(BaseModel):
    """A corpus that has been found: its source, its identity, and how its texts are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["factworld", "files", "hub"]
    paths: tuple[str, ...] = Field(default=(), description="Local files in the order they are read")
    digests: tuple[str, ...] = Field(default=(), description="sha256 of each file")
    repository: str | None = Field(default=None, description="Hub id")
    config: str | None = Field(default=None, description="Configuration of a hub data set")
    revision: str | None = Field(default=None, description="Commit of a hub data set")
    field: str = Field(default="text", description="Field that holds the text in JSONL, Parquet and hub data sets")
    world: str | None = Field(default=None, description="Digest of the fact world")
    seed: int = Field(default=0, description="Seed of the fact world's sentences")

    @property
    def label(self) -> str:
        """The corpus's name in messages."""
        if self.kind == "hub":
            return f"{self.repository} {self.config or ''}".strip()
        return "factworld" if self.kind == "factworld" else ", ".join(Path(path).name for path in self.paths)

    def identity(self) -> dict[str, Any]:
        """Return what identifies the texts, independent of their location."""
        if self.kind == "factworld":
            return {"world": self.world, "seed": self.seed}
        if self.kind == "files":
            plain = all(not path.endswith(WITH_FIELDS) for path in self.paths)
            return {"files": list(self.digests), **({} if plain else {"field": self.field})}
        return {"hub": self.repository, "config": self.config, "revision": self.revision, "field": self.field}
