"""Which figures of geometry are computed. Loads no model and no torch, so that a sweep file is checked at once."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["GeometrySettings"]

_VERSION = 2
_LATER = frozenset({"measures", "hidden_prompts", "routing_prompts", "retrieval", "solver"})

Measure = Literal["concentration", "gain", "cosines"]


class GeometrySettings(BaseModel):
    """Which figures are computed, and how large the subspaces are.

    On sites of 4096 x 14336 each group costs seconds to minutes on a CPU (docs/benchmarks.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["geometry"] = "geometry"
    previous: bool = Field(default=True, description="Drift and change from the wanted checkpoint before")
    bound: bool = Field(default=True, description="The energy's lower bound on the change of preserved outputs")
    moments: bool = Field(default=True, description="Preserved outputs through C0, where the sweep has `moments`")
    spectra: bool = Field(default=True, description="Spectral norms, ranks, subspaces, singular vectors")
    subspace_threshold: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="Share of the singular values that the dominant directions hold; REVIVE's default"
    )
    subspace_energy: Literal["sum", "squares"] = Field(
        default="sum", description="Of what it is a share: REVIVE's plain sum of singular values, or of their squares"
    )
    principal_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.5,
        description="Share of energy that SPHERE's principal directions hold; its README's cumulative ratio",
    )

    measures: tuple[Measure, ...] = Field(
        default=(),
        description="Further figures: concentration of the change's spectrum, gain of the top singular values, cosines"
        " of the rows as a histogram",
    )

    solver: bool = Field(
        default=False,
        description="Residual, condition and shortfall of the solves of the latest batch, for closed forms",
    )

    retrieval: bool = Field(
        default=False,
        description="How sharply the key of each edit retrieves one residual, where the solver carries its factor",
    )

    hidden_prompts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Prompts whose hidden states at the last edited layer are compared with the unedited model's",
    )

    routing_prompts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        default=(),
        description="Prompts whose experts, chosen at the last token in every layer, are compared with the unedited"
        " model's; for mixtures of experts",
    )

    @property
    def reads_previous(self) -> bool:
        """Whether the checkpoint before enters the scores."""
        return self.previous

    @property
    def reads_moments(self) -> bool:
        """Whether second moments enter the scores."""
        return self.bound and self.moments

    def identity(self) -> dict[str, object]:
        """Return everything but the subject that can change a score."""
        settings = self.model_dump(mode="json")
        # Later options enter an identity only where they are set: scores of roots without them stay valid.
        kept = {name: value for name, value in settings.items() if name not in _LATER or value}
        return {"kind": self.kind, "version": _VERSION, "settings": kept}
