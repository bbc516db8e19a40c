"""Theorem 1 of SPHERE (arXiv 2510.01172) as numbers: hyperspherical energy bounds the change of preserved outputs.

Symbols: W_0 the unedited weight `[o, d]`, dW = W - W_0, G = dHE/dW at W_0, K0 `[d, N]` the inputs whose outputs are to
be preserved, C0 = K0 K0^T / N their second moment, |.| the Frobenius norm.

To first order in dW, HE(W) - HE(W_0) = <G, dW>, and for positive definite C0 Cauchy-Schwarz gives

    |HE(W) - HE(W_0)| = |<G C0^{-1/2}, dW C0^{1/2}>| <= |G C0^{-1/2}| |dW C0^{1/2}|,

where |dW C0^{1/2}|^2 = tr(dW C0 dW^T) = |dW K0|^2 / N is the mean squared change of an output. So with
s = |G C0^{-1/2}|

    |dW K0| / sqrt(N) >= |HE(W) - HE(W_0)| / s        (first order).

With orthonormal inputs that span the whole input space, C0 = I and N = 1 in this formula: |dW| >= |dHE| / |G|, which
is the paper's assumption; its |dV| >= (dHE / K)^2 is the square of it. Its constant, as the authors' project page
(2026-02-27) states it for unit rows w_k, is

    K = 4 (sum_k (sum_{j != k} |w_k - w_j|^{-3})^2)^{1/2}

(`published_constant`). It bounds |G| from above: the factor 4 is 2 for ordered pairs times |w_k - w_j| <= 2. So |G|
gives the tighter bound, by a factor of 18 on the tiny Llama of the tests and of 31 on 256 random unit rows in 512
dimensions. Where C0 is singular there is no bound at all: a change inside its null space moves HE and no
preserved output. Far from W_0 the first order is no longer the whole: a measured ratio below 1 says so.
"""

import math

import torch

from sphere_core.numerics.energy import inverse_cubes, row_directions

__all__ = ["energy_sensitivity", "output_change", "published_constant"]

_BLOCK_ROWS = 1024


def output_change(change: torch.Tensor, moment: torch.Tensor) -> float:
    """Return sqrt(tr(dW C0 dW^T)): the root mean square, over the tokens behind C0, of |dW k|.

    `change` `[o, d]`, `moment` C0 `[d, d]`, symmetric; float64 in blocks of rows, on the device of `change`. Times
    the square root of the token count it is |dW K0|.
    """
    wide = moment.to(device=change.device, dtype=torch.float64)
    total = 0.0
    for start in range(0, change.shape[0], _BLOCK_ROWS):
        rows = change[start : start + _BLOCK_ROWS].double()
        total += float(((rows @ wide) * rows).sum())
    return math.sqrt(max(total, 0.0)) if math.isfinite(total) else math.nan


def energy_sensitivity(gradient: torch.Tensor, moment: torch.Tensor | None) -> float:
    """Return s = |G C0^{-1/2}| = sqrt(tr(G C0^{-1} G^T)), or |G| without a moment: orthonormal inputs.

    By a Cholesky factor L of C0, as |L^{-1} G^T|, float64, on the device of `gradient` `[o, d]`. Infinite where C0 is
    not positive definite, since there no bound holds.
    """
    wide = gradient.double()
    if moment is None:
        return float(torch.linalg.vector_norm(wide))
    factor, failed_at = torch.linalg.cholesky_ex(moment.to(wide))
    if int(failed_at):
        return math.inf
    return float(torch.linalg.vector_norm(torch.linalg.solve_triangular(factor, wide.T, upper=False)))


def published_constant(weight: torch.Tensor) -> float:
    """Return the authors' K = 4 (sum_k (sum_{j != k} |w^_k - w^_j|^-3)^2)^(1/2) of a weight `[o, d]`, float64.

    For rows of unit length, as the theorem assumes; other rows are normalised first. In blocks of rows, O(o^2 d).
    Rows nearer than 1e-6 are clamped there, as in the energy. Source: the authors' project page of SPHERE, 2026-02-27.
    """
    directions = row_directions(weight)
    total = 0.0
    for start in range(0, directions.shape[0], _BLOCK_ROWS):
        sums = inverse_cubes(directions, start, _BLOCK_ROWS).sum(dim=1)
        total += float(sums.square().sum())
    return 4 * math.sqrt(total) if math.isfinite(total) else math.nan
