"""Context templates as settings and as files. Loads no torch: a sweep file is checked with it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.json_files import read_json

__all__ = [
    "ContextSettings",
    "Contexts",
    "ContextsSpec",
    "GivenContexts",
    "SampledContexts",
    "check_contexts",
    "contexts_spec",
    "read_contexts",
]

# Groups of templates, each template with '{}' once; the first is '{}' itself.
Contexts = tuple[tuple[str, ...], ...]


class ContextSettings(BaseModel):
    """How context templates are sampled; the defaults are those of MEMIT's released code.

    One sample from each of The, Therefore, Because, I, You; ten tokens in all; top 5.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: tuple[str, ...] = Field(
        default=("The", "Therefore", "Because", "I", "You"),
        max_length=1000,
        description="First words, one template each",
    )
    length: int = Field(default=10, ge=2, le=1024, description="Tokens in all, the first word included")
    top_k: int = Field(default=5, ge=1, le=1_000_000, description="Sampled among this many most likely tokens")

    @field_validator("seeds")
    @classmethod
    def _not_blank(cls, seeds: tuple[str, ...]) -> tuple[str, ...]:
        if any(not word.strip() for word in seeds):
            raise ValueError("a first word is blank: there is nothing to continue")
        return seeds


class SampledContexts(BaseModel):
    """Templates that are sampled from the unedited model, with the trajectory's seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sampled: ContextSettings = Field(description="How they are sampled")


class GivenContexts(BaseModel):
    """Templates that are used as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: Contexts = Field(description="Groups of templates with '{}' once")


# The contexts of a trajectory's specification.
ContextsSpec = SampledContexts | GivenContexts


def contexts_spec(groups: Contexts | None) -> ContextsSpec:
    """Return the specification of given templates, or of sampled ones with the default settings."""
    return SampledContexts(sampled=ContextSettings()) if groups is None else GivenContexts(groups=groups)


def read_contexts(path: Path) -> Contexts:
    """Read a JSON list of template groups; raises InputError as `check_contexts`."""
    return check_contexts(read_json(path, what="contexts file"), where=str(path))


def check_contexts(groups: Any, *, where: str) -> Contexts:
    """Return template groups as tuples; raises InputError if there are none, or a template lacks '{}'."""
    shaped = isinstance(groups, list | tuple) and groups and all(isinstance(g, list | tuple) and g for g in groups)
    if not shaped or not all(isinstance(t, str) and t.count("{}") == 1 for group in groups for t in group):
        raise InputError(
            "contexts must be a list of non-empty groups of templates with '{}' once",
            where=where,
            remedy='for example [["{}"], ["The. {}", "I. {}"]]',
        )
    if groups[0][0] != "{}":
        raise InputError(
            "the first template must be '{}', the bare prompt",
            where=where,
            remedy='begin the list with ["{}"]',
        )
    return tuple(tuple(group) for group in groups)
