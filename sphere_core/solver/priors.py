"""Priors of the least-squares step: what a change of the weight costs before any edit is asked for.

Symbols: Pi the precision `[d, d]`, C0 the second moment, X columns `[d, m]`. All in float64.
"""

from typing import Protocol

import torch

from sphere_core.numerics.linalg import Subspace, cholesky_factor

__all__ = ["MomentPrior", "NullSpacePrior", "Prior"]


class Prior(Protocol):
    """The precision Pi of the prior on a weight's change, possibly infinite off a subspace."""

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi^{-1} X."""
        ...

    def solve(self, gram: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return (Pi + gram)^{-1} X for gram `[d, d]`."""
        ...

    def times(self, gram: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return Y (Pi + gram) for Y `[m, d]`, inside the subspace where Pi is finite."""
        ...


class MomentPrior:
    """Pi = lambda C0 + lambda_n I: a change is paid for by what it does to the corpus, and by its norm.

    MEMIT (arXiv 2210.07229) has lambda_n = 0, ENCORE (arXiv 2502.01636) both. The Cholesky factor is made on first
    use and kept: Pi is a constant of the trajectory. With `moment` None, Pi = lambda_n I.
    """

    def __init__(self, moment: torch.Tensor | None, *, weight: float, ridge: float, width: int) -> None:
        precision = torch.zeros(width, width, dtype=torch.float64) if moment is None else weight * moment.double()
        precision.diagonal().add_(ridge)
        self._precision = precision
        self._factor: torch.Tensor | None = None

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi^{-1} X; raises InputError where C0 is not positive definite."""
        if self._factor is None:
            self._factor = cholesky_factor(self._precision, what="the second moment C0")
        # cholesky_solve copies the factor every time; two triangular solves do not.
        half = torch.linalg.solve_triangular(self._factor, columns.to(self._factor), upper=False)
        whole: torch.Tensor = torch.linalg.solve_triangular(self._factor.T, half, upper=True)
        return whole

    def solve(self, gram: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return (Pi + gram)^{-1} X."""
        factor = cholesky_factor(self._precision + gram.to(self._precision), what="lambda C0 + K K^T")
        return torch.cholesky_solve(columns.to(factor), factor)

    def times(self, gram: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return Y (Pi + gram)."""
        return rows.to(self._precision) @ (self._precision + gram.to(self._precision))


class NullSpacePrior:
    """Pi = L2 I inside a subspace and infinite off it: AlphaEdit (arXiv 2410.02355).

    Equal to the released (P (K K^T + H H^T) + L2 I)^{-1} P K, which is solved there as a non-symmetric fp32 system:
    inside the subspace the system is symmetric and positive definite.
    """

    def __init__(self, subspace: Subspace, ridge: float) -> None:
        self._subspace = subspace
        self._ridge = ridge

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return P X / L2."""
        return self._subspace.project(columns) / self._ridge

    def solve(self, gram: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return (P gram P + L2 I)^{-1} P X, which stays inside the subspace."""
        inside = self._subspace.project(self._subspace.project(gram).T)
        inside.diagonal().add_(self._ridge)
        factor = cholesky_factor(inside, what="P K K^T P + L2 I")
        return torch.cholesky_solve(self._subspace.project(columns), factor)

    def times(self, gram: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return Y P (gram + L2 I) P."""
        inside = self._subspace.project(rows.T).T
        return self._subspace.project((inside @ gram.to(inside) + self._ridge * inside).T).T
