"""LyapLock (arXiv 2505.15702): a virtual queue sets how much preservation weighs against editing.

With the scalars V = 1, b = 0 of the released code, per layer:

    left = R K^T - a Z lambda (W - W_0) C0 + (S_VK - W S_KK),   A = K K^T + S_KK + a Z lambda C0,   dW = left A^{-1}

S_KK = sum K_h K_h^T and S_VK = sum V_h K_h^T over earlier batches with realised outputs V_h = W_new K_h. The form
without value statistics: for a map without bias V_0 K_0^T = W_0 C0, so the loss on preserved knowledge is PL = tr((W
- W_0) C0 (W - W_0)^T). First batch: a Z = 1, no history; then D = PL, a = 1 / sqrt(alpha D), z_max = sqrt(alpha D)
and Z = z_max. After every batch, the first included, Z <- max(Z + a (PL - alpha D), z_max): for alpha < 1 the queue
already moves after the first batch, for alpha >= 1 it stays at its floor there.
"""

from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import DenseUpdate, cholesky_factor
from sphere_core.numerics.placement import Resident, all_finite
from sphere_core.solver.forms import DENSE
from sphere_core.solver.solution import Solution, figures_of, relative_residual

__all__ = ["LyapLockRule"]


@dataclass(frozen=True)
class LyapLockRule:
    """One site under LyapLock. State: S_KK `[d, d]`, S_VK `[o, d]` (float64) and the scalars a, Z, z_max, D."""

    moment: Resident[torch.Tensor]
    weight: float
    alpha: float

    def solve(self, write: SiteWrite, state: EditorState, correction: torch.Tensor | None) -> Solution:
        """Return the update; nan if an input is not finite."""
        keys, residuals = write.keys.double(), write.residuals.double()
        live = write.weight.to(keys)
        if not all_finite(keys, residuals, live):
            return Solution(DenseUpdate(torch.full_like(live, torch.nan)), DENSE)
        change = live - write.base.to(keys)
        pressure = self._pressure(state)
        left = residuals @ keys.T - pressure * change @ self._moment(keys)
        if "key_gram" in state.tensors:
            left += state.tensors["value_gram"].to(keys) - live @ state.tensors["key_gram"].to(keys)
        if correction is not None:
            left += correction.to(keys)
        system = self._system(keys, state)
        factor = cholesky_factor(system, what="K K^T + a Z lambda C0")
        update = DenseUpdate(torch.cholesky_solve(left.T, factor).T)
        gain, missed = torch.cholesky_solve(keys, factor), update.matrix @ system - left
        return Solution(update, DENSE, figures_of(keys, residuals, update, gain, relative_residual(missed, left)))

    def times_system(self, change: torch.Tensor, write: SiteWrite, state: EditorState) -> torch.Tensor:
        """Return X A."""
        return change.double() @ self._system(write.keys.double(), state)

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Add the batch with its realised outputs, and move the queue."""
        keys = write.keys.double()
        live = write.weight.to(keys)
        if not all_finite(keys, live):
            return state
        gram = keys @ keys.T
        values = live @ gram
        if "key_gram" in state.tensors:
            gram, values = gram + state.tensors["key_gram"].to(keys), values + state.tensors["value_gram"].to(keys)
        return EditorState({"key_gram": gram, "value_gram": values}, self._moved_queue(write, keys, state))

    def _pressure(self, state: EditorState) -> float:
        """a Z lambda."""
        return float(state.scalars.get("a", 1.0)) * float(state.scalars.get("z", 1.0)) * self.weight

    def _moment(self, like: torch.Tensor) -> torch.Tensor:
        return self.moment.at(like.device).to(like)

    def _system(self, keys: torch.Tensor, state: EditorState) -> torch.Tensor:
        system = keys @ keys.T + self._pressure(state) * self._moment(keys)
        return system + state.tensors["key_gram"].to(keys) if "key_gram" in state.tensors else system

    def _moved_queue(
        self, write: SiteWrite, keys: torch.Tensor, state: EditorState
    ) -> dict[str, float | int | str | bool]:
        change = write.weight.to(keys) - write.base.to(keys)
        loss = float(((change @ self._moment(change)) * change).sum())
        scalars = dict(state.scalars)
        if "budget" not in scalars:
            budget = self.alpha * loss
            floor = budget**0.5
            scalars = {"budget": budget, "floor": floor, "z": floor, "a": 1 / floor if floor else 1.0}
        budget, floor, a = (float(scalars[name]) for name in ("budget", "floor", "a"))
        scalars["z"] = max(float(scalars["z"]) + a * (loss - budget), floor)
        return scalars
