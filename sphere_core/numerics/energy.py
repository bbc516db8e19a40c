"""Hyperspherical energy of a weight's neurons: how evenly its rows spread over the sphere.

Symbols: W `[o, d]`, w^_i = w_i / |w_i| its row directions, c_ij = w^_i . w^_j.
HE(W) = sum over ordered pairs i != j of 1 / |w^_i - w^_j|, with |w^_i - w^_j|^2 = 2 - 2 c_ij
(Liu et al., arXiv 1805.09298, with s = 1; the energy of SPHERE, arXiv 2510.01172).

That SPHERE means this sum is confirmed by a number: the authors' figure shows 1.18612e7 for unedited Llama-3-8B. The
4096 rows of one down projection are nearly orthogonal, and n (n - 1) / sqrt(2) is 1.18604e7 for n = 4096. Columns would
give 1.45e8, unordered pairs half. The formula on their page has no row normalisation; their code normalises, as here.
"""

from dataclasses import dataclass

import torch

from sphere_core.numerics.placement import all_finite

__all__ = [
    "Energy",
    "energy_gradient",
    "hyperspherical_energy",
    "inverse_cubes",
    "relative_drift",
    "row_directions",
]

_BLOCK_ROWS = 1024
# Squared distance of rows that coincide to rounding: their term is 1e6 instead of infinite.
_SMALLEST_SQUARED_DISTANCE = 1e-12


@dataclass(frozen=True)
class Energy:
    """`total` is the ordered-pair sum, `mean` the total over n(n-1) pairs; `clamped` counts coinciding pairs."""

    total: float
    mean: float
    clamped: int


def row_directions(weight: torch.Tensor) -> torch.Tensor:
    """Return rows scaled to unit length, float64 `[o, d]`; a zero row stays zero."""
    wide = weight.to(torch.float64, copy=True)
    norms = torch.linalg.vector_norm(wide, dim=1, keepdim=True)
    return wide.div_(norms.clamp_min_(torch.finfo(torch.float64).tiny))


def hyperspherical_energy(weight: torch.Tensor) -> Energy:
    """Return the energy of a weight `[o, d]`, exact, blocked, with products and sums in float64.

    Only blocks on and above the diagonal are computed. Memory is one float64 copy of W and one block of
    cosines. Pairs nearer than 1e-6 are clamped there and counted. A weight with a non-finite entry has
    the energy nan.
    """
    count = weight.shape[0]
    if count < 2:
        raise ValueError("energy needs at least two rows")
    if not all_finite(weight):
        return Energy(float("nan"), float("nan"), 0)
    directions = row_directions(weight)
    half, clamped = 0.0, 0
    for start in range(0, count, _BLOCK_ROWS):
        rows = directions[start : start + _BLOCK_ROWS]
        diagonal, low = _pair_sum(rows, rows, strictly_upper=True)
        off, low_off = _pair_sum(rows, directions[start + _BLOCK_ROWS :], strictly_upper=False)
        half, clamped = half + diagonal + off, clamped + low + low_off
    return Energy(2 * half, 2 * half / (count * (count - 1)), 2 * clamped)


def relative_drift(energy: Energy, base: Energy) -> float:
    """Return (HE - HE_0) / HE_0: free of any convention on ordered pairs, sums or means."""
    return (energy.total - base.total) / base.total


def energy_gradient(weight: torch.Tensor) -> torch.Tensor:
    """Return dHE/dW `[o, d]` in float64.

    dHE/dw_i = (2 / |w_i|) [ sum_j D_ij w^_j - (sum_j D_ij c_ij) w^_i ],  D_ij = |w^_i - w^_j|^-3, D_ii = 0.
    Its norm bounds the first-order change of energy per unit of |dW|_F (Theorem 1 of arXiv 2510.01172;
    `preservation.published_constant` is the authors' looser bound).
    """
    directions = row_directions(weight)
    norms = torch.linalg.vector_norm(weight.double(), dim=1, keepdim=True)
    gradient = torch.empty_like(directions)
    for start in range(0, weight.shape[0], _BLOCK_ROWS):
        rows = directions[start : start + _BLOCK_ROWS]
        cosines = rows @ directions.T
        cubes = inverse_cubes(directions, start, _BLOCK_ROWS)
        radial = (cubes * cosines).sum(dim=1, keepdim=True)
        gradient[start : start + _BLOCK_ROWS] = cubes @ directions - radial * rows
    scaled: torch.Tensor = 2 * gradient / norms
    return scaled


def inverse_cubes(directions: torch.Tensor, start: int, count: int) -> torch.Tensor:
    """Return D_ij = |w^_i - w^_j|^-3 `[count, o]` for the unit rows i from `start` on, with D_ii = 0, float64."""
    rows = directions[start : start + count]
    cubes = (2 - 2 * (rows @ directions.T)).clamp_min(_SMALLEST_SQUARED_DISTANCE).pow(-1.5)
    index = torch.arange(rows.shape[0])
    cubes[index, index + start] = 0
    return cubes


def _pair_sum(rows: torch.Tensor, others: torch.Tensor, *, strictly_upper: bool) -> tuple[float, int]:
    if others.shape[0] == 0:
        return 0.0, 0
    squared = (rows @ others.T).mul_(-2).add_(2)
    low = squared < _SMALLEST_SQUARED_DISTANCE
    terms = squared.clamp_min_(_SMALLEST_SQUARED_DISTANCE).rsqrt_()
    if strictly_upper:
        terms, low = terms.triu_(diagonal=1), low.triu(diagonal=1)
    return float(terms.sum()), int(low.sum())
