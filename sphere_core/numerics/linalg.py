"""Numeric policy and the few linear-algebra forms that everything else is written in.

Symbols: W weight `[o, d]`, dW update `[o, d]`, K keys `[d, n]`, U orthonormal columns `[d, r]`.
Policy: decompositions and solves in float64; a projector is applied, never formed; a system is solved,
never inverted; weights stay fp32.
"""

from dataclasses import dataclass

import torch

from sphere_core.foundation.errors import InputError
from sphere_core.numerics.placement import all_finite

__all__ = [
    "BlockSubspace",
    "DenseUpdate",
    "LowRankUpdate",
    "Subspace",
    "Update",
    "cholesky_factor",
    "damp_directions",
    "refuse_rounding",
    "symmetric_eigen",
]


@dataclass(frozen=True)
class LowRankUpdate:
    """An update kept as `dW = L R^T`, with `left` `[o, n]` and `right` `[d, n]`, float64."""

    left: torch.Tensor
    right: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return `[o, d]` in float64."""
        return self.left @ self.right.T

    def times(self, columns: torch.Tensor) -> torch.Tensor:
        """Return `dW X` for X `[d, m]`."""
        return self.left @ (self.right.T @ columns)

    def damped(self, directions: torch.Tensor, strength: float) -> "LowRankUpdate":
        """Return `dW (I - a U U^T)`: the right factor damped, at O(d r n)."""
        return LowRankUpdate(self.left, damp_directions(self.right.T, directions, strength).T)

    def is_finite(self) -> bool:
        """Return whether every entry of both factors is finite."""
        return all_finite(self.left, self.right)

    def to(self, device: torch.device) -> "LowRankUpdate":
        """Return the update on a device."""
        return LowRankUpdate(self.left.to(device), self.right.to(device))


@dataclass(frozen=True)
class DenseUpdate:
    """An update without a low-rank form: `matrix` is `[o, d]`, float64."""

    matrix: torch.Tensor

    def dense(self) -> torch.Tensor:
        """Return `[o, d]` in float64."""
        return self.matrix

    def times(self, columns: torch.Tensor) -> torch.Tensor:
        """Return `dW X` for X `[d, m]`."""
        return self.matrix @ columns

    def damped(self, directions: torch.Tensor, strength: float) -> "DenseUpdate":
        """Return `dW (I - a U U^T)`."""
        return DenseUpdate(damp_directions(self.matrix, directions, strength))

    def is_finite(self) -> bool:
        """Return whether every entry is finite."""
        return all_finite(self.matrix)

    def to(self, device: torch.device) -> "DenseUpdate":
        """Return the update on a device."""
        return DenseUpdate(self.matrix.to(device))


Update = LowRankUpdate | DenseUpdate


def damp_directions(rows: torch.Tensor, directions: torch.Tensor, strength: float) -> torch.Tensor:
    """Return `X (I - a U U^T)` as `X - a (X U) U^T`.

    Symbols: X = `rows` `[m, d]`, U = `directions` `[d, r]` with orthonormal columns, a = `strength`
    in [0, 1] (0 leaves X, 1 removes the directions). Computed in float64.
    """
    wide = rows.double()
    basis = directions.to(wide)
    return wide - strength * (wide @ basis) @ basis.T


@dataclass(frozen=True)
class Subspace:
    """A linear subspace of R^d, kept by its thinner side.

    `basis` `[d, r]` has orthonormal columns. With `complement` the subspace is everything orthogonal
    to them: AlphaEdit's null space on large models is all but a few dozen directions. `removed` `[d, q]`, orthonormal
    directions inside the subspace, are taken out of it.
    """

    basis: torch.Tensor
    complement: bool
    removed: torch.Tensor | None = None

    @property
    def dimension(self) -> int:
        """Number of dimensions of the subspace."""
        rank = self.basis.shape[1]
        whole = self.basis.shape[0] - rank if self.complement else rank
        return whole - (0 if self.removed is None else self.removed.shape[1])

    def to(self, device: torch.device) -> "Subspace":
        """Return the subspace on a device."""
        removed = None if self.removed is None else self.removed.to(device)
        return Subspace(self.basis.to(device), self.complement, removed)

    def project(self, columns: torch.Tensor) -> torch.Tensor:
        """Return `P X` for X `[d, n]`, float64."""
        wide = columns.double()
        basis = self.basis.to(wide)
        along = ((wide.T @ basis) @ basis.T).T
        inside = wide - along if self.complement else along
        if self.removed is None:
            return inside
        gone = self.removed.to(wide)
        return inside - gone @ (gone.T @ inside)


@dataclass(frozen=True)
class BlockSubspace:
    """A subspace of R^(E f) that is the sum of one subspace of R^f for each of E blocks, in their order."""

    blocks: tuple[Subspace, ...]

    @property
    def dimension(self) -> int:
        """Number of dimensions of the subspace."""
        return sum(block.dimension for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of all bases."""
        return sum(block.basis.numel() * block.basis.element_size() for block in self.blocks)

    def to(self, device: torch.device) -> "BlockSubspace":
        """Return the subspace on a device."""
        return BlockSubspace(tuple(block.to(device) for block in self.blocks))

    def project(self, columns: torch.Tensor) -> torch.Tensor:
        """Return `P X` for X `[E f, n]`, float64; a block of X that is zero costs nothing."""
        wide = columns.double()
        parts = wide.unflatten(0, (len(self.blocks), -1))
        touched = parts.flatten(1).count_nonzero(dim=1).tolist()
        inside = [
            block.project(part) if used else part for block, part, used in zip(self.blocks, parts, touched, strict=True)
        ]
        return torch.cat(inside)


def symmetric_eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eigenvalues (ascending) and eigenvectors of a symmetric matrix, float64.

    The matrix is symmetrised first, since rounding in a product leaves it slightly off.
    """
    wide = matrix.double()
    values, vectors = torch.linalg.eigh((wide + wide.T) / 2)
    return values, vectors


def cholesky_factor(matrix: torch.Tensor, *, what: str) -> torch.Tensor:
    """Return the lower Cholesky factor in float64; raises InputError if the matrix is not positive definite."""
    factor: torch.Tensor
    factor, failed_at = torch.linalg.cholesky_ex(matrix.double())
    minor = int(failed_at)
    if minor:
        raise InputError(
            f"{what} is not positive definite (leading minor {minor})",
            remedy="second moments need more tokens than input dimensions, and a positive weight",
        )
    return factor


def refuse_rounding(factor: torch.Tensor, *, what: str) -> None:
    """Raise InputError if a lower Cholesky factor exists by rounding alone.

    The squares of its pivots span at most the condition of the matrix; where they span more than 1 / (n eps), what is
    below the smallest is the rounding of the factorisation itself.
    """
    pivots = factor.diagonal()
    span = float((pivots.amin() / pivots.amax()) ** 2)
    if span < len(pivots) * torch.finfo(torch.float64).eps:
        raise InputError(
            f"{what} is singular in float64: its pivots span a factor of {1 / span if span else float('inf'):.1e}",
            remedy="build it over more tokens than it has rows, or add a ridge (update_norm_lambda)",
        )
