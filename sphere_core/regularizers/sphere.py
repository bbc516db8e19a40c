"""SPHERE (arXiv 2510.01172): keep updates out of the principal directions of a weight's neurons."""

from collections.abc import Mapping
from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import Update, damp_directions
from sphere_core.numerics.placement import all_finite
from sphere_core.numerics.spectrum import principal_directions
from sphere_core.regularizers.base import Stateless
from sphere_core.regularizers.read_ahead import ReadAhead

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
        self._current = ReadAhead(self._directions)

    def read_ahead(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Begin to decompose the current weights; does nothing where the directions are those of the unedited ones."""
        if self._basis == "current":
            self._current.begin(weights)

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the damped update; low-rank stays low-rank."""
        if self._basis == "current":
            directions = self._current.of(write.site.name, write.weight)
            return update if directions is None else update.damped(directions, self._strength)
        return update.damped(self._of_base(write.base, write.site.name), self._strength)

    def view(self, change: torch.Tensor, base: torch.Tensor, site_name: str) -> torch.Tensor:
        """Damp an accumulated change along the unedited weight's directions: SPHERE after PRUNE, as released."""
        return damp_directions(change, self._of_base(base, site_name), self._strength)

    def _directions(self, weight: torch.Tensor) -> torch.Tensor | None:
        """Return the principal directions of a weight; None for one that is not finite."""
        return principal_directions(weight, self._energy_ratio) if all_finite(weight) else None

    def _of_base(self, base: torch.Tensor, site_name: str) -> torch.Tensor:
        if site_name not in self._pretrained:
            self._pretrained[site_name] = principal_directions(base, self._energy_ratio)
        return self._pretrained[site_name]
