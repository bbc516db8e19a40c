"""What the solver returns: the update, the form that made it, and figures that say how far it can be relied on.

Symbols: K keys `[d, n]`, R residuals `[o, n]`, A the system `[d, d]`, G = A^{-1} K, S = (Pi + h H H^T)^{-1}, and L =
K^T G `[n, n]`, whose eigenvalues lie in [0, 1). I + K^T S K = (I - L)^{-1}, so that the largest eigenvalue of L gives
that matrix's norm in every form; its smallest eigenvalue is at least 1, so that its condition is at most its norm.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.numerics.linalg import Update
from sphere_core.solver.forms import OWN

__all__ = ["Solution", "SolveFigures", "as_solution", "figures_at", "figures_of", "relative_residual", "with_figures"]

# The part of an editor's state that holds the figures of each site's latest solve, as scalars.
_PART = "solve"


@dataclass(frozen=True)
class SolveFigures:
    """Figures of one solve, each a float64 tensor without dimensions on the solver's device.

    `residual`: |left - right|_F / |right|_F of the system that the form solves (`FORMS`), a rounding unless the system
    is ill-conditioned. `condition`: 1 / (1 - l), l the largest eigenvalue of L: the norm of I + K^T S K, and an upper
    bound of its condition. `shortfall`: |R - dW K|_F / |R|_F, the share of what was asked that prior and history leave
    unwritten.
    """

    residual: torch.Tensor
    condition: torch.Tensor
    shortfall: torch.Tensor

    def scalars(self) -> dict[str, float | int | str | bool]:
        """Return the figures as numbers, by name, without those that are not finite; reads the device once."""
        values = torch.stack([self.residual, self.condition, self.shortfall])
        names = ("residual", "condition", "shortfall")
        return {name: value for name, value in zip(names, values.tolist(), strict=True) if abs(value) < float("inf")}


@dataclass(frozen=True)
class Solution:
    """An update, the name of the form that solved it, and its figures.

    Without figures: inputs that are not finite, whose update is nan, and equalities, which solve no system.
    """

    update: Update
    form: str
    figures: SolveFigures | None = None

    def to(self, device: torch.device) -> "Solution":
        """Return the solution with its update on a device; figures are numbers and stay."""
        return Solution(self.update.to(device), self.form, self.figures)


def as_solution(found: Solution | Update) -> Solution:
    """Return what a rule has solved as a solution; rules of plugins may return the update alone."""
    return found if isinstance(found, Solution) else Solution(found, OWN)


def relative_residual(difference: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return |difference|_F / |right|_F, zero if both are zero."""
    size = torch.linalg.vector_norm(right)
    found: torch.Tensor = torch.linalg.vector_norm(difference) / torch.where(size == 0, torch.ones_like(size), size)
    return found


def figures_of(
    keys: torch.Tensor, residuals: torch.Tensor, update: Update, gain: torch.Tensor, residual: torch.Tensor
) -> SolveFigures:
    """Return the figures of an update from K, R, G = A^{-1} K and the residual of the form's own system, float64."""
    leverage = keys.T @ gain
    leverage = (leverage + leverage.T) / 2
    # An eigensolver has no answer for what is not finite; the sum passes it on.
    spread = torch.linalg.eigvalsh(torch.nan_to_num(leverage))[-1] + 0 * leverage.sum()
    left = (1 - spread).clamp_min(torch.finfo(torch.float64).eps)
    written = update.times(keys)
    return SolveFigures(residual, 1 / left, relative_residual(residuals - written, residuals))


def with_figures(state: EditorState, site: str, figures: SolveFigures | None) -> EditorState:
    """Return an editor's state with the figures of a site's latest solve, by the site's label; none without figures."""
    return state.with_part(f"{_PART}/{site}", EditorState({}, {} if figures is None else figures.scalars()))


def figures_at(scalars: Mapping[str, float | int | str | bool], site: str) -> dict[str, float]:
    """Return the figures of a site's latest solve from the scalars of a checkpoint; empty if there are none.

    Wrappers keep an editor's state under a name of their own, in front.
    """
    found = {}
    for name, value in scalars.items():
        head, _, figure = name.rpartition("/")
        if head == f"{_PART}/{site}" or head.endswith(f"/{_PART}/{site}"):
            found[figure] = float(value)
    return found
