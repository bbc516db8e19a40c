"""REVIVE's causal experiments (arXiv 2601.11042): what a weight's spectrum carries, without writing any request.

Symbols: W_0 = sum_i s_i u_i v_i^T the unedited weight, i in descending order of s. Every batch is one step: its
requests are counted, not read. A direction's place is the share of the spectrum before it: (e_1 + ... + e_{i-1}) / sum
e, with e the singular values (`sum`), their squares (`squares`) or 1 (`count`).

`truncate` step t keeps the fewest leading directions whose share reaches the t-th level: W = U_k U_k^T W_0.
`perturb` step t adds noise of the t-th level's norm inside one band of places: W = W_0 + level |W_0|_F D / |D|_F, D =
U_B G V_B^T with G a square of standard normal numbers, the same at every step. After the last level, the last stays.

The paper publishes no code; which energy its bands hold, and how its noise lies in a band, are not known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.hyperparameters.places import DOWN, Place
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site
from sphere_core.numerics.spectrum import SingularSubspaces, singular_subspaces
from sphere_core.requests import EditRequest

__all__ = ["PerturbEditor", "SpectrumShare", "TruncateEditor"]

SpectrumShare = Literal["sum", "squares", "count"]
# Far from any seed of another site.
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class TruncateEditor:
    """Keeps the leading share of the unedited spectrum. State: the number of steps so far."""

    places: tuple[Place, ...]
    levels: tuple[float, ...]
    share: SpectrumShare
    _spaces: dict[str, SingularSubspaces] = field(default_factory=dict, init=False)

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Take one step at every site, from the unedited weight."""
        level, state = _next_level(self.levels, state)
        sites = model.open_sites(self.places)
        for done, site in enumerate(sites, 1):
            weight = model.base_weight(site).double()
            if site.name not in self._spaces:
                self._spaces[site.name] = singular_subspaces(weight)
            spaces = self._spaces[site.name]
            reached = _energies(spaces.values, self.share).cumsum(0)
            # The sum of all shares can come out a rounding below 1.
            rank = min(int((reached / reached[-1] < level * (1 - 1e-12)).sum()) + 1, len(reached)) if level else 0
            left = spaces.left[:, :rank]
            model.set_weight(site, (left @ (left.T @ weight)).float())
            model.progress.report("writing", done, len(sites), "sites")
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: the weights themselves are scored."""
        return None


@dataclass(frozen=True)
class PerturbEditor:
    """Adds noise of a given norm inside one band of the unedited spectrum. State: the number of steps so far."""

    places: tuple[Place, ...]
    levels: tuple[float, ...]
    share: SpectrumShare
    band: tuple[float, float]
    seed: int
    _noise: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Take one step at every site, from the unedited weight; raises InputError if a band holds no direction."""
        level, state = _next_level(self.levels, state)
        sites = model.open_sites(self.places)
        for done, site in enumerate(sites, 1):
            weight = model.base_weight(site).double()
            if site.name not in self._noise:
                self._noise[site.name] = self._of(site, weight)
            size = level * torch.linalg.vector_norm(weight)
            model.set_weight(site, (weight + size * self._noise[site.name]).float())
            model.progress.report("writing", done, len(sites), "sites")
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: the weights themselves are scored."""
        return None

    def _of(self, site: Site, weight: torch.Tensor) -> torch.Tensor:
        """Return the noise `[o, d]` of a site, of norm 1."""
        spaces = singular_subspaces(weight)
        energies = _energies(spaces.values, self.share)
        before = (energies.cumsum(0) - energies) / energies.sum()
        inside = ((before >= self.band[0]) & (before < self.band[1])).nonzero().squeeze(1)
        if not len(inside):
            raise InputError(
                f"the band {self.band[0]:g} to {self.band[1]:g} of the spectrum of {site.name} holds no direction",
                where="hyperparameter 'perturb_band'",
                remedy="take a wider band",
            )
        # The modules of one layer draw different numbers.
        own = 0 if site.module == DOWN else int(fingerprint({"module": site.module})[:8], 16)
        generator = torch.Generator().manual_seed(_SEED_STRIDE * site.layer + self.seed + own)
        drawn = torch.randn(len(inside), len(inside), generator=generator, dtype=torch.float64).to(weight.device)
        noise: torch.Tensor = spaces.left[:, inside] @ drawn @ spaces.right[:, inside].T
        return noise.div(torch.linalg.vector_norm(noise))


def _next_level(levels: Sequence[float], state: EditorState) -> tuple[float, EditorState]:
    step = int(state.scalars.get("step", 0))
    return levels[min(step, len(levels) - 1)], EditorState(state.tensors, {**state.scalars, "step": step + 1})


def _energies(values: torch.Tensor, share: SpectrumShare) -> torch.Tensor:
    if share == "count":
        return torch.ones_like(values)
    return values if share == "sum" else values.square()
