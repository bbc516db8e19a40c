"""Spectra of weights: the principal directions of the neurons."""

import torch

from sphere_core.energy import row_directions
from sphere_core.linalg import symmetric_eigen

__all__ = ["principal_directions", "principal_rank"]


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
    """Return SPHERE's U `[d, r]`: leading eigenvectors of (1/o) W^^T W^, W^ the row-normalised weight `[o, d]`.

    The decomposition is done on the smaller side: for o < d the Gram matrix W^ W^^T / o = X L X^T has the same
    non-zero spectrum and U = W^^T X_r (o L_r)^{-1/2}. All in float64. Departs from the released code in that
    (float32, always `[d, d]`), and in guarding the row norm by a floor instead of adding 1e-8 to it.
    Raises ValueError for a weight with a non-finite entry.
    """
    if not bool(torch.isfinite(weight).all()):
        raise ValueError("the weight has a non-finite entry")
    directions = row_directions(weight)
    count, width = directions.shape
    wide = count < width
    gram = directions @ directions.T if wide else directions.T @ directions
    values, vectors = symmetric_eigen(gram / count)
    values, vectors = values.flip(0), vectors.flip(1)
    rank = principal_rank(values, energy_ratio)
    if not wide:
        return vectors[:, :rank]
    scale = (count * values[:rank]).clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    return (directions.T @ vectors[:, :rank]) * scale
