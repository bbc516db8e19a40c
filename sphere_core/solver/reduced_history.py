"""Long histories: what they take from the prior's covariance, instead of the keys themselves.

With Pi the prior's precision and h H H^T the history, the history is kept as its reduction of the covariance

    G = Pi^{-1} - (Pi + h H H^T)^{-1}   [d, d], symmetric, positive semidefinite

so that S X = (Pi + h H H^T)^{-1} X = Pi^{-1} X - G X. For a batch of keys K and for new columns X of the history

    A^{-1} K = S K (I + K^T S K)^{-1},      G <- G + S X (I + X^T S X)^{-1} X^T S

both exact (Woodbury), at O(d^2 n) a batch whatever the number of earlier edits. Columns with their factor cost
O(d N n + N^2 n), and from N = d / 2 on they are the larger state too. The dense form costs O(d^3) and is not required.

Rounding: S is a difference, as in the form with columns; its relative error in a direction is that of the prior's
covariance there, and grows by one rounding a batch. All in float64; G stays symmetric to the last bit.
"""

from collections.abc import Callable

import torch

from sphere_core.numerics.linalg import cholesky_factor
from sphere_core.solver.priors import Prior
from sphere_core.solver.solution import relative_residual

__all__ = ["extended_reduction", "reduced_gain", "reduction_of"]

_BLOCK = 1024


def reduction_of(prior: Prior, columns: torch.Tensor | None, weight: float, *, like: torch.Tensor) -> torch.Tensor:
    """Return G `[d, d]` of the columns H `[d, N]`, a thousand at a time; zero without columns.

    `like` gives width, dtype and device. Once per trajectory, at O(d^2 N).
    """
    reduction = like.new_zeros(like.shape[0], like.shape[0])
    for part in () if columns is None else columns.split(_BLOCK, dim=1):
        reduction = extended_reduction(prior, reduction, weight**0.5 * part.to(like))
    return reduction


def reduced_gain(
    prior: Prior, reduction: torch.Tensor, keys: torch.Tensor
) -> tuple[torch.Tensor, Callable[[], torch.Tensor]]:
    """Return A^{-1} K `[d, n]` for keys K in float64, and a call for the residual of G (I + K^T S K) = S K."""
    spread, factor, core = _spread(prior, reduction, keys)
    gain = torch.cholesky_solve(spread.T, factor).T
    return gain, lambda: relative_residual(gain @ core - spread, spread)


def extended_reduction(prior: Prior, reduction: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """Return G with the columns X `[d, n]` (weighted, float64) added to the history; a new tensor."""
    spread, factor, _ = _spread(prior, reduction, new)
    half = torch.linalg.solve_triangular(factor, spread.T, upper=False)
    return _plus_outer(reduction.to(half, copy=True), half.T)


def _spread(
    prior: Prior, reduction: torch.Tensor, columns: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return S X, and I + X^T S X with its lower factor before it."""
    spread = prior.inverse(columns) - reduction.to(columns) @ columns
    core = columns.T @ spread
    core = (core + core.T) / 2
    core.diagonal().add_(1)
    return spread, cholesky_factor(core, what="I + K^T (Pi + h H H^T)^{-1} K"), core


def _plus_outer(matrix: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Add Z Z^T for Z `[d, m]` to a symmetric matrix in place: one side of the diagonal is computed and mirrored."""
    for start in range(0, matrix.shape[0], _BLOCK):
        stop = min(start + _BLOCK, matrix.shape[0])
        matrix[start:stop, :stop] += half[start:stop] @ half[:stop].T
        corner = matrix[start:stop, start:stop]
        corner.copy_(corner.tril() + corner.tril(-1).T)
        matrix[:start, start:stop] = matrix[start:stop, :start].T
    return matrix
