"""All eigenvalues of a symmetric matrix, and only those eigenvectors that are read: the leading ones.

Symbols: G symmetric `[n, n]`, Q T Q^T its tridiagonal form, l eigenvalues in descending order, r vectors wanted.

A full decomposition computes n eigenvectors of T and multiplies all of them by Q, several times what T and its
eigenvalues cost. Here T is made once, its eigenvalues give r, and r vectors are computed and multiplied. Exact: nothing
is iterated from a guess, and nothing is truncated.
"""

from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from scipy.linalg import lapack
from threadpoolctl import threadpool_limits

from sphere_core.numerics.linalg import symmetric_eigen

__all__ = ["leading_eigen"]

# Smaller matrices are decomposed whole: it takes milliseconds.
_PARTIAL_FROM = 256
# Above this share of vectors a whole decomposition costs less.
_MOST = 0.5
# Columns that LAPACK treats at once.
_BLOCK = 64
# Largest entry of |X^T X - I| that is accepted: vectors of eigenvalues that nearly coincide could lean on each other.
_ORTHONORMAL = 1e-10


def leading_eigen(matrix: torch.Tensor, rank_of: Callable[[torch.Tensor], int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all eigenvalues `[n]`, descending, and the first r eigenvectors `[n, r]` of a symmetric matrix, float64.

    `rank_of` gives r from the eigenvalues. On the host, from n = 256 on and for at most half of the vectors, the
    tridiagonal form is made once and r of its vectors are computed (LAPACK's sytrd, sterf, stemr, ormqr), on as many
    threads as torch has. On an accelerator, and where the vectors found are not orthonormal to 1e-10 or LAPACK gives
    none, it is the whole decomposition. The matrix is symmetrised first, as by `symmetric_eigen`.
    """
    if matrix.device.type != "cpu" or len(matrix) < _PARTIAL_FROM:
        return _whole(matrix, rank_of)
    wide = matrix.double()
    with threadpool_limits(limits=torch.get_num_threads(), user_api="blas"):
        found = _partial(((wide + wide.T) / 2).numpy(), rank_of)
    return _whole(matrix, rank_of) if found is None else found


def _whole(matrix: torch.Tensor, rank_of: Callable[[torch.Tensor], int]) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = symmetric_eigen(matrix)
    values = values.flip(0)
    return values, vectors.flip(1)[:, : rank_of(values)].contiguous()


def _partial(matrix: np.ndarray, rank_of: Callable[[torch.Tensor], int]) -> tuple[torch.Tensor, torch.Tensor] | None:
    count = len(matrix)
    # The transpose of a symmetric matrix in row order is itself in column order, which LAPACK overwrites.
    reflectors, diagonal, beside, scales, failed = lapack.dsytrd(
        matrix.T, lower=1, lwork=_BLOCK * count, overwrite_a=True
    )
    if failed or not (np.isfinite(diagonal).all() and np.isfinite(beside).all()):
        return None
    try:
        ascending = scipy.linalg.eigvalsh_tridiagonal(diagonal, beside, lapack_driver="sterf")
        values = torch.from_numpy(ascending[::-1].copy())
        rank = rank_of(values)
        if rank > _MOST * count:
            return None
        if rank == 0:
            return values, values.new_zeros(count, 0)
        _, inner = scipy.linalg.eigh_tridiagonal(
            diagonal, beside, select="i", select_range=(count - rank, count - 1), lapack_driver="stemr"
        )
    except np.linalg.LinAlgError:
        return None
    # Q leaves the first coordinate and reflects the others, a reflector per column below the first off-diagonal.
    below, _, failed = lapack.dormqr(
        "L", "N", reflectors[1:, :-1], scales, np.asfortranarray(inner[1:]), lwork=_BLOCK * count, overwrite_c=True
    )
    vectors = torch.from_numpy(np.vstack([inner[:1], below])[:, ::-1].copy())
    slant = (vectors.T @ vectors - torch.eye(rank, dtype=torch.float64)).abs().max()
    return None if failed or not slant <= _ORTHONORMAL else (values, vectors)
