"""Spectra of weights: principal directions of the neurons, singular subspaces, the spectral norm.

Symbols: W weight `[o, d]`, W^ its rows scaled to unit length. Decompositions are float64, of the smaller Gram matrix.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from sphere_core.numerics.energy import row_directions
from sphere_core.numerics.leading_eigen import leading_eigen
from sphere_core.numerics.linalg import symmetric_eigen
from sphere_core.numerics.placement import all_finite

__all__ = [
    "SingularSubspaces",
    "dominant_rank",
    "effective_rank",
    "gram_of_rows",
    "principal_directions",
    "principal_rank",
    "singular_subspaces",
    "singular_values",
    "singular_vector_similarity",
    "spectral_norm",
    "stable_rank",
    "subspace_similarity",
]


# A Gram matrix is computed in this many blocks of rows, on and above the diagonal only: 10 of 16 blocks.
_GRAM_BLOCKS = 4


def gram_of_rows(matrix: torch.Tensor) -> torch.Tensor:
    """Return X X^T `[m, m]` of X `[m, d]` in its dtype, computed on one side of the diagonal and mirrored."""
    count = matrix.shape[0]
    gram = matrix.new_empty(count, count)
    size = max(1, -(-count // _GRAM_BLOCKS))
    for start in range(0, count, size):
        part = matrix[start : start + size] @ matrix[start:].T
        gram[start:, start : start + size] = part.T
        gram[start : start + size, start:] = part
    return gram


def principal_rank(eigenvalues: torch.Tensor, energy_ratio: float) -> int:
    """Return how many leading eigenvalues hold more than `energy_ratio` of their sum.

    r = 1 + #{k : (l_1 + ... + l_k) / sum l <= ratio}, eigenvalues in descending order: the rule of SPHERE's
    released code, which needs the share to EXCEED the ratio where the paper's text says reach. Never
    more than the number of eigenvalues.
    """
    values = eigenvalues.double().clamp_min(0)
    shares = values.cumsum(0) / values.sum()
    return min(int((shares <= energy_ratio).sum()) + 1, values.shape[0])


def principal_directions(weight: torch.Tensor, energy_ratio: float) -> torch.Tensor:
    """Return SPHERE's U `[d, r]`: leading eigenvectors of (1/o) W^^T W^ (arXiv 2510.01172).

    For o < d the Gram matrix W^ W^^T / o = X L X^T has the same non-zero spectrum and U = W^^T X_r (o L_r)^{-1/2}.
    Departs from the released code in float64 (there float32, always `[d, d]`), and in guarding the row norm by a
    floor instead of adding 1e-8 to it. Raises ValueError for a weight with a non-finite entry.
    """
    if not all_finite(weight):
        raise ValueError("the weight has a non-finite entry")
    directions = row_directions(weight)
    count, width = directions.shape
    wide = count < width
    gram = gram_of_rows(directions if wide else directions.T)
    values, vectors = leading_eigen(gram / count, lambda found: principal_rank(found, energy_ratio))
    if not wide:
        return vectors
    scale = (count * values[: vectors.shape[1]]).clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    # Rows times rows: the product in this order is twice as fast as with transposed operands.
    return ((vectors * scale).T.contiguous() @ directions).T


@dataclass(frozen=True)
class SingularSubspaces:
    """Singular values (descending) with left `[o, r]` and right `[d, r]` vectors; only directions with s > 0."""

    values: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


def singular_subspaces(
    weight: torch.Tensor, *, rank_of: Callable[[torch.Tensor], int] | None = None
) -> SingularSubspaces:
    """Return the compact SVD of W by the eigenvectors of its smaller Gram matrix.

    `rank_of` says from the singular values how many leading directions are wanted; only those are computed, and all
    values are returned. Squaring
    loses the singular values below 1e-8 of the largest; directions under that are left out.
    Raises ValueError for a weight with a non-finite entry.
    """
    if not all_finite(weight):
        raise ValueError("the weight has a non-finite entry")
    wide = weight.double()
    tall = wide.shape[0] > wide.shape[1]
    gram = gram_of_rows(wide.T if tall else wide)
    if rank_of is None:
        squares, vectors = symmetric_eigen(gram)
        squares, near = squares.flip(0), vectors.flip(1)
    else:
        squares, near = leading_eigen(gram, lambda found: rank_of(_above_rounding(found)))
    values = _above_rounding(squares)
    near = near[:, : len(values)]
    far = (wide @ near if tall else wide.T @ near) / values[: near.shape[1]]
    return SingularSubspaces(values, far, near) if tall else SingularSubspaces(values, near, far)


def _above_rounding(squares: torch.Tensor) -> torch.Tensor:
    """Return the singular values whose squares, in descending order, are above the rounding of the Gram matrix."""
    squares = squares.clamp_min(0)
    return squares[squares > squares[0] * 1e-15].sqrt()


def dominant_rank(values: torch.Tensor, threshold: float, energy: Literal["sum", "squares"]) -> int:
    """Return REVIVE's k: the fewest leading singular values whose energy reaches the `threshold` share.

    A threshold of 0 protects nothing. The script released by a third party takes the 0-based position of the first
    share above the threshold as the count, one direction fewer.
    """
    if threshold == 0:
        return 0
    energies = values if energy == "sum" else values.square()
    shares = energies.double().cumsum(0) / energies.double().sum()
    return min(int((shares < threshold).sum()) + 1, len(values))


def singular_values(weight: torch.Tensor) -> torch.Tensor:
    """Return all singular values of W, descending, float64, from the eigenvalues of its smaller Gram matrix.

    Values below sqrt(m eps) of the largest, m the longer side, are rounding of the Gram matrix and returned as zero.
    """
    wide = weight.double()
    gram = gram_of_rows(wide.T if wide.shape[0] > wide.shape[1] else wide)
    squares: torch.Tensor = torch.linalg.eigvalsh(gram).flip(0).clamp_min(0)
    floor = squares[0] * max(weight.shape) * torch.finfo(torch.float64).eps
    return torch.where(squares > floor, squares, 0).sqrt()


def spectral_norm(weight: torch.Tensor) -> float:
    """Return the largest singular value of W, from the eigenvalues of its smaller Gram matrix, float64."""
    return float(singular_values(weight)[0])


def effective_rank(values: torch.Tensor) -> float:
    """Return exp(-sum p ln p), p = s / sum s, of singular values (Roy and Vetterli, EUSIPCO 2007); nan if all are 0."""
    shares = values.double() / values.double().sum()
    return float(torch.special.entr(shares).sum().exp())


def stable_rank(values: torch.Tensor) -> float:
    """Return |W|_F^2 / |W|_2^2 from singular values in descending order; nan if all are 0."""
    squares = values.double().square()
    return float(squares.sum() / squares[0])


def subspace_similarity(base: torch.Tensor, other: torch.Tensor) -> float:
    """Return |A^T B|_F^2 / k of A `[m, k]` and B `[m, q]`, orthonormal columns: the share of A's span found in B's.

    1 for equal subspaces of equal rank, q / m on average for a random B. REVIVE (arXiv 2601.11042) tracks a
    "low-rank subspace similarity" whose formula is not published; this is the usual one.
    """
    return float((base.T @ other).square().sum() / base.shape[1])


def singular_vector_similarity(base: SingularSubspaces, other: SingularSubspaces) -> tuple[float, float]:
    """Return the mean over i of |u_i.u'_i| |v_i.v'_i|, and that of max over j of |u_i.u'_j| |v_i.v'_j|.

    The first falls where singular values change places, the second does not. i runs over the vectors of `base`; one
    without a partner counts as 0. REVIVE's "singular vector similarity" has no published formula.
    """
    products = (base.left.T @ other.left).abs() * (base.right.T @ other.right).abs()
    count = base.left.shape[1]
    best = products.amax(dim=1) if other.left.shape[1] else products.new_zeros(count)
    return float(products.diagonal().sum() / count), float(best.sum() / count)
