"""How one site is written, and what is remembered of it: the rows of the closed-form table that are more than a
prior."""

from dataclasses import dataclass, replace

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import WriteRule
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import LowRankUpdate, Subspace
from sphere_core.numerics.placement import Resident, all_finite
from sphere_core.solver.forms import EQUALITY
from sphere_core.solver.least_squares import KeyHistory, least_squares_solution, times_system
from sphere_core.solver.priors import NullSpacePrior, Prior
from sphere_core.solver.solution import Solution, as_solution

__all__ = ["EqualityRule", "EvolvingNullSpaceRule", "HostRule", "LeastSquaresRule"]


@dataclass(frozen=True)
class HostRule:
    """A rule that runs on the host, where its layer's device has no room for what it keeps (`Placement`).

    Keys, residuals and what else the rule reads of a write go there; its update comes back. The state stays there.
    """

    rule: WriteRule

    def solve(self, write: SiteWrite, state: EditorState, correction: torch.Tensor | None) -> Solution:
        """Return the update."""
        there = None if correction is None else correction.cpu()
        return as_solution(self.rule.solve(_on_host(write), state, there)).to(write.keys.device)

    def times_system(self, change: torch.Tensor, write: SiteWrite, state: EditorState) -> torch.Tensor:
        """Return X A."""
        return self.rule.times_system(change.cpu(), _on_host(write), state).to(change.device)

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Return this site's state after the batch."""
        return self.rule.remember(_on_host(write), state)


@dataclass(frozen=True)
class LeastSquaresRule:
    """MEMIT, MEMIT-seq, ENCORE, AlphaEdit: a prior, and key history with a weight and a window.

    `keeps_system`: the system A itself is required later (error feedback), so a long history stays its Gram matrix.
    """

    prior: Prior
    keeps_history: bool
    history_weight: float
    history_window: int | None
    keeps_system: bool = False

    def solve(self, write: SiteWrite, state: EditorState, correction: torch.Tensor | None) -> Solution:
        """Return dW = (R K^T + B) A^{-1}."""
        history = KeyHistory.of(state)
        return least_squares_solution(
            self.prior, history, write.keys, write.residuals, correction, history_weight=self.history_weight
        )

    def times_system(self, change: torch.Tensor, write: SiteWrite, state: EditorState) -> torch.Tensor:
        """Return X A."""
        history = KeyHistory.of(state)
        return times_system(self.prior, history, write.keys, change, history_weight=self.history_weight)

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Append the batch's keys where the method keeps them."""
        if not self.keeps_history or self.history_weight == 0:
            return state
        history = KeyHistory.of(state).append(
            write.keys,
            window=self.history_window,
            prior=self.prior,
            weight=self.history_weight,
            reduces=not self.keeps_system,
        )
        return EditorState(history.state())


@dataclass(frozen=True)
class EqualityRule(LeastSquaresRule):
    """EMMET (arXiv 2403.14236): the equality-constrained batch edit.

    For more than one request the released code adds mu I to K^T C^{-1} K, which makes it MEMIT with lambda scaled by
    mu; `prior` is that scaled prior. For a single request the constraint is met exactly, whatever the scale:
    dW = r (C^{-1} k)^T / (k^T C^{-1} k).
    """

    def solve(self, write: SiteWrite, state: EditorState, correction: torch.Tensor | None) -> Solution:
        """Return the update."""
        if write.keys.shape[1] > 1 or correction is not None:
            return super().solve(write, state, correction)
        keys = write.keys.double()
        if not all_finite(keys, write.residuals):
            return super().solve(write, state, None)
        spread = self.prior.inverse(keys)
        return Solution(LowRankUpdate(write.residuals.double(), spread / (keys * spread).sum()), EQUALITY)


@dataclass(frozen=True)
class EvolvingNullSpaceRule:
    """EvoEdit (arXiv 2510.13851): what a batch wrote is projected out of the space left for later ones.

        S = P K,  dW = R (K^T S + L2 I)^{-1} S^T,  then P <- P - Q Q^T,  Q the left singular vectors of S with s > tau.

    P = P_0 - Q Q^T is never formed: P_0 is AlphaEdit's null space, Q `[d, r]` float64 grows. At most dim P_0
    independent keys can ever be written. The paper's tau and the index of its projector are known at second hand only.
    """

    space: Resident[Subspace]
    ridge: float
    threshold: float

    def solve(self, write: SiteWrite, state: EditorState, correction: torch.Tensor | None) -> Solution:
        """Return the update."""
        prior = NullSpacePrior(self._remaining(state, write.keys.device), self.ridge)
        return least_squares_solution(prior, KeyHistory(), write.keys, write.residuals, correction)

    def times_system(self, change: torch.Tensor, write: SiteWrite, state: EditorState) -> torch.Tensor:
        """Return X A inside the space that is left."""
        prior = NullSpacePrior(self._remaining(state, write.keys.device), self.ridge)
        return times_system(prior, KeyHistory(), write.keys, change)

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Add the directions this batch used; twice projected, so that Q stays orthonormal."""
        if not all_finite(write.keys):
            return state
        remaining = self._remaining(state, write.keys.device)
        left, values, _ = torch.linalg.svd(remaining.project(write.keys), full_matrices=False)
        used = remaining.project(left[:, values > self.threshold])
        if used.shape[1] == 0:
            return state
        fresh, _ = torch.linalg.qr(used)
        before = state.tensors.get("written")
        return EditorState({"written": fresh if before is None else torch.cat([before.to(fresh), fresh], dim=1)})

    def _remaining(self, state: EditorState, device: torch.device) -> Subspace:
        space, written = self.space.at(device), state.tensors.get("written")
        if written is None:
            return space
        return Subspace(space.basis, space.complement, removed=written.to(space.basis))


def _on_host(write: SiteWrite) -> SiteWrite:
    """Return a write whose keys and residuals lie on the host; rules that read weights move them to the keys."""
    return replace(write, keys=write.keys.cpu(), residuals=write.residuals.cpu())
