"""The specification of a trajectory: everything that can change its numbers. Plain data; loads no torch."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.locate.templates import ContextsSpec
from sphere_core.models.family import Family
from sphere_core.moments.spec import MomentsSpec
from sphere_core.plugins.reference import PluginReference
from sphere_core.streams.stream import StreamSpec
from sphere_core.tuning.settings import TuningSpec

__all__ = ["TrajectorySpec"]

# Raised whenever a change of this code changes a trajectory's numbers.
NUMERICS_VERSION = 1


class TrajectorySpec(BaseModel):
    """Everything that can change a trajectory's numbers, and the names that tables show.

    Models and data enter the identity by content, never by name or path. Threads do, because they change the order of
    sums.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="Path, hub id or 'factworld'")
    model_digest: str = Field(description="Digest of the model's config, weights and tokenizer files")
    revision: str | None = Field(default=None, description="Commit of a hub id")
    remote_code: bool = Field(default=False, description="Python files that come with the model are run")
    family: Family | None = Field(
        default=None, description="Where the model's modules are, if a plugin says so; part of the model's digest"
    )
    dtype: str = Field(description="The network's dtype; edited sites keep fp32 masters")
    method: str = Field(description="Editor, with regularizers after plus signs")
    revisions: dict[str, int] = Field(
        default_factory=dict, description="Rows of the method whose numbers have changed since their first form"
    )
    plugins: dict[str, PluginReference] = Field(
        default_factory=dict,
        description="Rows of the method, and the reader of the data set (dataset/NAME), that are not part of the "
        "release, each with its code",
    )
    hyperparameters: Hyperparameters
    stream: StreamSpec
    stream_digest: str = Field(description="Digest of the ordered requests")
    generation_digest: str | None = Field(
        default=None, description="Digest of what only free generation is scored by; no part of the identity"
    )
    batch_size: int = Field(ge=1, description="Requests edited together")
    seed: int = Field(description="Seeds the order of edits and the context templates")
    contexts: ContextsSpec = Field(description="How templates are sampled, or the groups themselves")
    moments: MomentsSpec = Field(description="Digest of imported second moments, or the recipe they are built by")
    threads: int = Field(ge=1, description="CPU threads of the replica")
    tuning: TuningSpec | None = Field(
        default=None, description="The fine-tuning of one of its checkpoints; the rest is then what was edited before"
    )

    def identity(self) -> dict[str, Any]:
        """Return what the id is made of."""
        return {
            "numerics": NUMERICS_VERSION,
            "model_digest": self.model_digest,
            "dtype": self.dtype,
            "method": self.method,
            "hyperparameters": self.hyperparameters.identity(),
            "stream_digest": self.stream_digest,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "contexts": self.contexts.model_dump(mode="json"),
            "moments": self.moments.identity(),
            "threads": self.threads,
            **({"remote_code": True} if self.remote_code else {}),
            **({"revisions": self.revisions} if self.revisions else {}),
            **({"code": {row: plugin.digest for row, plugin in self.plugins.items()}} if self.plugins else {}),
            **({"tuning": self.tuning.identity()} if self.tuning is not None else {}),
        }

    @property
    def id(self) -> str:
        """The trajectory's name on disk: 16 hex digits of its identity's digest."""
        return fingerprint(self.identity())[:16]
