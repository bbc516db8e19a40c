"""SPHERE (arXiv 2510.01172): keep updates out of the principal directions of a weight's neurons."""

from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import Update, damp_directions
from sphere_core.numerics.placement import all_finite
from sphere_core.numerics.spectrum import principal_directions
from sphere_core.regularizers.base import Stateless

__all__ = ["Sphere"]


class Sphere(Stateless):
    """dW' = dW (I - a U U^T), U the principal directions that hold `energy_ratio` of the neurons' energy.

    `basis` is the weight U comes from: `current`, the weight the update is added to, as the released code has it, or
    `pretrained`, the unedited weight, as the paper's text has it. Neurons are the rows of the canonical
    `[d_out, d_in]` weight on every architecture; the released code takes the rows of the stored tensor, which
    for GPT-2 are the other side. A weight that is not finite has no directions: the update is passed on.
    """

    def __init__(self, *, energy_ratio: float, strength: float, basis: Literal["current", "pretrained"]) -> None:
        self._energy_ratio = energy_ratio
        self._strength = strength
        self._basis = basis
        self._pretrained: dict[str, torch.Tensor] = {}

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the damped update; low-rank stays low-rank."""
        if self._basis == "current":
            if not all_finite(write.weight):
                return update
            return update.damped(principal_directions(write.weight, self._energy_ratio), self._strength)
        return update.damped(self._of_base(write.base, write.site.name), self._strength)

    def view(self, change: torch.Tensor, base: torch.Tensor, site_name: str) -> torch.Tensor:
        """Damp an accumulated change along the unedited weight's directions: SPHERE after PRUNE, as released."""
        return damp_directions(change, self._of_base(base, site_name), self._strength)

    def _of_base(self, base: torch.Tensor, site_name: str) -> torch.Tensor:
        if site_name not in self._pretrained:
            self._pretrained[site_name] = principal_directions(base, self._energy_ratio)
        return self._pretrained[site_name]
