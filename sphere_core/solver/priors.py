"""Priors of the least-squares step: what a change of the weight costs before any edit.

Symbols: Pi the precision `[d, d]`, C0 the second moment, X columns `[d, m]`. All in float64.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from sphere_core.numerics.linalg import BlockSubspace, Subspace, cholesky_factor, refuse_rounding
from sphere_core.numerics.placement import Resident

__all__ = ["HostPrior", "MomentPrior", "NullSpacePrior", "Prior", "PriorSystem"]


class Prior(Protocol):
    """The precision Pi of the prior on a weight's change, possibly infinite off a subspace."""

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi^{-1} X."""
        ...

    def system(self, gram: torch.Tensor) -> "PriorSystem":
        """Return Pi + gram for gram `[d, d]`, factored."""
        ...

    def precision_times(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi X for columns inside the subspace where Pi is finite."""
        ...

    def inside(self, columns: torch.Tensor) -> torch.Tensor:
        """Return X as far as it lies in the subspace where Pi is finite."""
        ...

    def times(self, gram: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return Y (Pi + gram) for Y `[m, d]`, inside the subspace where Pi is finite."""
        ...


class PriorSystem(Protocol):
    """Pi + gram, factored once for several right-hand sides."""

    def solve(self, columns: torch.Tensor) -> torch.Tensor:
        """Return (Pi + gram)^{-1} X."""
        ...


@dataclass(frozen=True)
class _CholeskySystem:
    """A lower Cholesky factor, and the subspace that right-hand sides are projected on (None: all of R^d)."""

    factor: torch.Tensor
    subspace: Subspace | BlockSubspace | None = None

    def solve(self, columns: torch.Tensor) -> torch.Tensor:
        """Return the solution for X `[d, m]`."""
        right = columns.to(self.factor) if self.subspace is None else self.subspace.project(columns)
        return torch.cholesky_solve(right, self.factor)


@dataclass(frozen=True)
class _HostSystem:
    """A system whose factor stays on the host."""

    system: PriorSystem

    def solve(self, columns: torch.Tensor) -> torch.Tensor:
        """Return the solution where the columns are from."""
        return self.system.solve(columns.cpu()).to(columns.device)


class HostPrior:
    """A prior whose constants stay on the host: columns go there, and answers come back to where they are from."""

    def __init__(self, prior: Prior) -> None:
        self._prior = prior

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi^{-1} X."""
        return self._prior.inverse(columns.cpu()).to(columns.device)

    def system(self, gram: torch.Tensor) -> PriorSystem:
        """Return Pi + gram, factored on the host."""
        return _HostSystem(self._prior.system(gram.cpu()))

    def precision_times(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi X."""
        return self._prior.precision_times(columns.cpu()).to(columns.device)

    def inside(self, columns: torch.Tensor) -> torch.Tensor:
        """Return X inside the subspace where Pi is finite."""
        return self._prior.inside(columns.cpu()).to(columns.device)

    def times(self, gram: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return Y (Pi + gram)."""
        return self._prior.times(gram.cpu(), rows.cpu()).to(rows.device)


class MomentPrior:
    """Pi = lambda C0 + lambda_n I: a change is paid for by what it does to the corpus, and by its norm.

    MEMIT (arXiv 2210.07229) has lambda_n = 0, ENCORE (arXiv 2502.01636) both. The Cholesky factor is made on first
    use, on the device of the columns, and kept there: Pi is a constant of the trajectory. Pi itself is kept only where
    the dense form requires it. With `moment` None, Pi = lambda_n I.
    """

    def __init__(self, moment: torch.Tensor | None, *, weight: float, ridge: float, width: int) -> None:
        self._moment = moment
        self._weight = weight
        self._ridge = ridge
        self._width = width
        self._precision: Resident[torch.Tensor] | None = None
        self._factor: Resident[torch.Tensor] | None = None

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi^{-1} X; raises InputError if Pi is not positive definite, or by rounding alone."""
        factor = self._factored(columns.device)
        # cholesky_solve copies the factor every time; two triangular solves do not.
        half = torch.linalg.solve_triangular(factor, columns.to(factor), upper=False)
        whole: torch.Tensor = torch.linalg.solve_triangular(factor.T, half, upper=True)
        return whole

    def system(self, gram: torch.Tensor) -> PriorSystem:
        """Return Pi + gram, factored."""
        precision = self._kept(gram.device)
        return _CholeskySystem(cholesky_factor(precision + gram.to(precision), what="lambda C0 + K K^T"))

    def precision_times(self, columns: torch.Tensor) -> torch.Tensor:
        """Return Pi X, from the factor unless Pi itself is kept."""
        if self._precision is not None:
            precision = self._precision.at(columns.device)
            return precision @ columns.to(precision)
        factor = self._factored(columns.device)
        return factor @ (factor.T @ columns.to(factor))

    def inside(self, columns: torch.Tensor) -> torch.Tensor:
        """Return X: Pi is finite everywhere."""
        return columns

    def times(self, gram: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return Y (Pi + gram)."""
        precision = self._kept(gram.device)
        return rows.to(precision) @ (precision + gram.to(precision))

    def _factored(self, device: torch.device) -> torch.Tensor:
        if self._factor is None:
            factor = cholesky_factor(self._made(device), what="the second moment C0")
            refuse_rounding(factor, what="the second moment C0")
            self._factor = Resident(factor)
        return self._factor.at(device)

    def _kept(self, device: torch.device) -> torch.Tensor:
        if self._precision is None:
            self._precision = Resident(self._made(device))
        return self._precision.at(device)

    def _made(self, device: torch.device) -> torch.Tensor:
        """Return Pi on a device; the second moment goes there once more only where both forms are in use."""
        if self._precision is not None:
            return self._precision.at(device)
        if self._moment is None:
            precision = torch.zeros(self._width, self._width, dtype=torch.float64, device=device)
        else:
            precision = self._weight * self._moment.to(device).double()
        precision.diagonal().add_(self._ridge)
        return precision


class NullSpacePrior:
    """Pi = L2 I inside a subspace and infinite off it: AlphaEdit (arXiv 2410.02355).

    Equal to the released (P (K K^T + H H^T) + L2 I)^{-1} P K, which is solved there as a non-symmetric fp32 system:
    inside the subspace the system is symmetric and positive definite.
    """

    def __init__(self, subspace: Subspace | BlockSubspace, ridge: float) -> None:
        self._subspace: Resident[Subspace | BlockSubspace] = Resident(subspace)
        self._ridge = ridge

    def inverse(self, columns: torch.Tensor) -> torch.Tensor:
        """Return P X / L2."""
        return self._subspace.at(columns.device).project(columns) / self._ridge

    def system(self, gram: torch.Tensor) -> PriorSystem:
        """Return P gram P + L2 I, factored; right-hand sides are projected, and solutions stay inside the subspace."""
        subspace = self._subspace.at(gram.device)
        inside = subspace.project(subspace.project(gram).T)
        inside.diagonal().add_(self._ridge)
        return _CholeskySystem(cholesky_factor(inside, what="P K K^T P + L2 I"), subspace)

    def precision_times(self, columns: torch.Tensor) -> torch.Tensor:
        """Return L2 X for X inside the subspace."""
        return self._ridge * columns.double()

    def inside(self, columns: torch.Tensor) -> torch.Tensor:
        """Return P X."""
        return self._subspace.at(columns.device).project(columns)

    def times(self, gram: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return Y P (gram + L2 I) P."""
        subspace = self._subspace.at(rows.device)
        inside = subspace.project(rows.T).T
        return subspace.project((inside @ gram.to(inside) + self._ridge * inside).T).T
