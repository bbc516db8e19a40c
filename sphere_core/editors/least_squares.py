"""The one least-squares step behind every closed-form editor, in interchangeable exact forms.

    dW = R K^T A^{-1},   A = Pi + H H^T + K K^T

Symbols: K keys of the batch `[d, n]`, R residuals `[o, n]`, H keys of earlier batches `[d, N]`, Pi the prior's
precision `[d, d]`, possibly infinite off a subspace (its inverse is then a projector). Editors differ only in Pi and
in whether H is kept. What is solved for is the gain A^{-1} K `[d, n]`; all of it in float64.

Two forms, chosen by size. Key memory, while N + n < d, with M = [H, K] and G = Pi^{-1} M (Woodbury):
    A^{-1} M = G (I + M^T G)^{-1}, of which the last n columns are the gain.
Dense, otherwise: a Cholesky factor of A itself.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from sphere_core.linalg import LowRankUpdate, Subspace, cholesky_factor

__all__ = ["KeyHistory", "MomentPrior", "NullSpacePrior", "Prior", "least_squares_update"]


class Prior(Protocol):
    """The precision Pi of the prior on a weight's change."""

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi^{-1} X for X `[d, n]`, float64."""
        ...

    def dense_gain(self, gram: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return (Pi + gram)^{-1} K for gram `[d, d]` and K `[d, n]`, float64."""
        ...


class MomentPrior:
    """Pi = lambda C0: a change is paid for by what it does to the corpus (MEMIT, arXiv 2210.07229).

    The Cholesky factor is made on first use and kept: Pi is a constant of the trajectory.
    """

    def __init__(self, moment: torch.Tensor, weight: float) -> None:
        self._precision = weight * moment.double()
        self._factor: torch.Tensor | None = None

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return (lambda C0)^{-1} X; raises InputError where C0 is not positive definite."""
        if self._factor is None:
            self._factor = cholesky_factor(self._precision, what="the second moment C0")
        return torch.cholesky_solve(columns.to(self._factor), self._factor)

    def dense_gain(self, gram: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return (lambda C0 + gram)^{-1} K."""
        factor = cholesky_factor(self._precision + gram, what="lambda C0 + K K^T")
        return torch.cholesky_solve(keys.double(), factor)


class NullSpacePrior:
    """Pi = L2 I inside a subspace and infinite off it: AlphaEdit (arXiv 2410.02355).

    Equal to the released (P (K K^T + H H^T) + L2 I)^{-1} P K, which is solved there as a non-symmetric fp32
    system: inside the subspace the system is symmetric and positive definite.
    """

    def __init__(self, subspace: Subspace, ridge: float) -> None:
        self._subspace = subspace
        self._ridge = ridge

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return P X / L2."""
        return self._subspace.project(columns) / self._ridge

    def dense_gain(self, gram: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return (P gram P + L2 I)^{-1} P K, which stays inside the subspace."""
        inside = self._subspace.project(self._subspace.project(gram).T)
        inside.diagonal().add_(self._ridge)
        factor = cholesky_factor(inside, what="P K K^T P + L2 I")
        return torch.cholesky_solve(self._subspace.project(keys), factor)


@dataclass(frozen=True)
class KeyHistory:
    """Keys of earlier batches: as columns `[d, N]` fp32 while N < d, then as their Gram matrix `[d, d]` float64.

    Columns are the smaller state until N reaches d. Exactly one of the two is set once anything was appended.
    """

    columns: torch.Tensor | None = None
    gram: torch.Tensor | None = None

    def append(self, keys: torch.Tensor) -> "KeyHistory":
        """Return the history with a batch's keys `[d, n]` added."""
        if self.gram is not None:
            wide = keys.to(self.gram)
            return KeyHistory(gram=self.gram + wide @ wide.T)
        columns = keys if self.columns is None else torch.cat([self.columns, keys], dim=1)
        if columns.shape[1] < columns.shape[0]:
            return KeyHistory(columns=columns)
        wide = columns.double()
        return KeyHistory(gram=wide @ wide.T)


def least_squares_update(
    prior: Prior, history: KeyHistory, keys: torch.Tensor, residuals: torch.Tensor
) -> LowRankUpdate:
    """Return dW = R (A^{-1} K)^T for K `[d, n]` and R `[o, n]`, kept as its two factors.

    Inputs that are not finite give an update of nan: a collapsed model is a result, and no factorisation is
    asked to survive it.
    """
    wide_keys, wide_residuals = keys.double(), residuals.double()
    if not bool(torch.isfinite(wide_keys).all() and torch.isfinite(wide_residuals).all()):
        return LowRankUpdate(torch.full_like(wide_residuals, torch.nan), torch.full_like(wide_keys, torch.nan))
    return LowRankUpdate(wide_residuals, _gain(prior, history, wide_keys))


def _gain(prior: Prior, history: KeyHistory, keys: torch.Tensor) -> torch.Tensor:
    width, count = keys.shape
    if history.gram is None:
        memory = keys if history.columns is None else torch.cat([history.columns.to(keys), keys], dim=1)
        if memory.shape[1] < width:
            return key_memory_gain(prior, memory, count)
        return prior.dense_gain(memory @ memory.T, keys)
    return prior.dense_gain(history.gram.to(keys) + keys @ keys.T, keys)


def key_memory_gain(prior: Prior, memory: torch.Tensor, count: int) -> torch.Tensor:
    """Return the gain for the last `count` columns of M `[d, N + n]` by the N x N form; float64."""
    spread = prior.inverse(memory)
    core = memory.T @ spread
    core = (core + core.T) / 2
    core.diagonal().add_(1)
    selector = torch.eye(core.shape[0], dtype=core.dtype, device=core.device)[:, -count:]
    factor = cholesky_factor(core, what="I + M^T Pi^{-1} M")
    return spread @ torch.cholesky_solve(selector, factor)
