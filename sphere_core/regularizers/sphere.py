"""SPHERE (arXiv 2510.01172): keep updates out of the principal directions of a weight's neurons."""

from typing import Literal

import torch

from sphere_core.linalg import Update
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site
from sphere_core.spectrum import principal_directions

__all__ = ["Sphere"]


class Sphere:
    """dW' = dW (I - a U U^T), U the principal directions that hold `energy_ratio` of the neurons' energy.

    `basis` is the weight U comes from: `current`, the weight the update is added to, as the released code has it, or
    `pretrained`, the unedited weight, as the paper's text has it. Neurons are the rows of the canonical `[d_out,
    d_in]` weight on every architecture; the released code takes the rows of the stored tensor, which for GPT-2 are
    the other side.
    """

    def __init__(self, *, energy_ratio: float, strength: float, basis: Literal["current", "pretrained"]) -> None:
        self._energy_ratio = energy_ratio
        self._strength = strength
        self._basis = basis
        self._pretrained: dict[str, torch.Tensor] = {}

    def apply(self, update: Update, site: Site, model: EditableModel) -> Update:
        """Return the damped update; low-rank stays low-rank."""
        return update.damped(self._directions(site, model), self._strength)

    def _directions(self, site: Site, model: EditableModel) -> torch.Tensor:
        if self._basis == "current":
            return principal_directions(model.weight(site), self._energy_ratio)
        if site.name not in self._pretrained:
            self._pretrained[site.name] = principal_directions(model.base_weight(site), self._energy_ratio)
        return self._pretrained[site.name]
