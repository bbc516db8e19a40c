"""The one least-squares step behind every closed-form editor, in interchangeable exact forms.

    dW = (R K^T + B) A^{-1},   A = Pi + h H H^T + K K^T

Symbols: K keys of the batch `[d, n]`, R residuals `[o, n]`, H keys of earlier batches `[d, N]` with weight h, Pi the
prior's precision `[d, d]` (priors.py), B an optional correction `[o, d]` of the right-hand side (error feedback).
Editors differ only in Pi and in what they keep of H. All in float64.

Forms of A^{-1} K, chosen by size (`forms.py` has the table). Key memory, while N + n < d, with M = [sqrt(h) H, K] and
G = Pi^{-1} M (Woodbury):
    A^{-1} M = G (I + M^T G)^{-1}, of which the last n columns count; no d x d state.
Where the history carries the Cholesky factor of its own block of I + M^T G, a batch costs O(d N n + N^2 n) and
Pi^{-1} is applied to 2 n columns instead of N + n. From N = d / 2 on such a history is kept in reduced coordinates
(`reduced_history`), at O(d^2 n).
Dense, otherwise: a Cholesky factor of A itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.numerics.linalg import DenseUpdate, LowRankUpdate, Update, cholesky_factor
from sphere_core.numerics.placement import all_finite
from sphere_core.numerics.tensor_file import LOWER, SYMMETRIC
from sphere_core.solver.forms import CARRIED, DENSE, MEMORY, chosen_form
from sphere_core.solver.priors import Prior
from sphere_core.solver.reduced_history import extended_reduction, reduced_gain, reduction_of
from sphere_core.solver.solution import Solution, figures_of, relative_residual

__all__ = ["KeyHistory", "key_memory_gain", "least_squares_solution", "least_squares_update", "times_system"]

_FACTOR, _REDUCTION = f"factor{LOWER}", f"reduction{SYMMETRIC}"


@dataclass(frozen=True)
class KeyHistory:
    """Keys of earlier batches: as columns `[d, N]` fp32 while N < d, then as their Gram matrix `[d, d]` float64.

    Columns are the smaller state until N reaches d. With a `window` only the latest columns are kept, as columns.
    `factor` `[N, N]` float64 goes with the columns: the lower Cholesky factor of I + h H^T Pi^{-1} H, extended by each
    batch. It is part of the state, so that a resumed trajectory continues with the same bits. From N = d / 2 on
    `reduction` `[d, d]` float64 takes the place of both, if a prior is given and the system itself is not required.
    """

    columns: torch.Tensor | None = None
    gram: torch.Tensor | None = None
    factor: torch.Tensor | None = None
    reduction: torch.Tensor | None = None

    @classmethod
    def of(cls, state: EditorState) -> "KeyHistory":
        """Read a history from a state."""
        tensors = state.tensors
        # Checkpoints of the first release hold the factor as a square.
        factor = tensors.get(_FACTOR, tensors.get("factor"))
        return cls(tensors.get("columns"), tensors.get("gram"), factor, tensors.get(_REDUCTION))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a checkpoint keeps."""
        named = {"columns": self.columns, "gram": self.gram, _FACTOR: self.factor, _REDUCTION: self.reduction}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def append(
        self,
        keys: torch.Tensor,
        *,
        window: int | None = None,
        prior: Prior | None = None,
        weight: float = 1.0,
        reduces: bool = True,
    ) -> "KeyHistory":
        """Return the history with a batch's keys `[d, n]` added.

        With a `prior`, a constant of the trajectory, and the history's weight h the factor is kept too; a window, or
        keys that are not finite, drop it. `reduces` allows reduced coordinates, from which H H^T cannot be had again.
        """
        if self.reduction is not None and prior is not None:
            if not all_finite(keys):
                return KeyHistory(reduction=self.reduction + torch.nan)
            return KeyHistory(reduction=extended_reduction(prior, self.reduction, weight**0.5 * keys.double()))
        if self.gram is not None:
            wide = keys.to(self.gram)
            return KeyHistory(gram=self.gram + wide @ wide.T)
        columns = keys if self.columns is None else torch.cat([self.columns.to(keys), keys], dim=1)
        if window is not None:
            return KeyHistory(columns=columns[:, -window:].contiguous())
        width, count = columns.shape
        carries = self.columns is None or self.factor is not None
        if prior is not None and carries and (reduces or count < width) and all_finite(keys):
            new = weight**0.5 * keys.double()
            if reduces and 2 * count >= width:
                earlier = reduction_of(prior, self.columns, weight, like=new)
                return KeyHistory(reduction=extended_reduction(prior, earlier, new))
            return KeyHistory(columns=columns, factor=_border(prior, self, new, weight).extended(self.factor))
        if count < width:
            return KeyHistory(columns=columns)
        wide = columns.double()
        return KeyHistory(gram=wide @ wide.T)

    def columns_with(self, keys: torch.Tensor, weight: float) -> torch.Tensor | None:
        """Return M = [sqrt(h) H, K] `[d, N + n]` in the dtype of K, or None if only the Gram matrix is kept."""
        self._require_keys()
        if self.gram is not None:
            return None
        return keys if self.columns is None else torch.cat([weight**0.5 * self.columns.to(keys), keys], dim=1)

    def gram_with(self, keys: torch.Tensor, weight: float) -> torch.Tensor:
        """Return h H H^T + K K^T `[d, d]` in the dtype of K."""
        self._require_keys()
        if self.gram is not None:
            return weight * self.gram.to(keys) + keys @ keys.T
        memory = self.columns_with(keys, weight)
        columns = keys if memory is None else memory
        return columns @ columns.T

    def _require_keys(self) -> None:
        if self.reduction is not None:
            raise ValueError("a history in reduced coordinates gives neither its keys nor their Gram matrix")


def least_squares_solution(
    prior: Prior,
    history: KeyHistory,
    keys: torch.Tensor,
    residuals: torch.Tensor,
    correction: torch.Tensor | None = None,
    *,
    history_weight: float = 1.0,
) -> Solution:
    """Return dW = (R K^T + B) A^{-1} with its figures, by the form that `chosen_form` names.

    Without a correction B `[o, d]` the update is its two factors R and A^{-1} K. Inputs that are not finite give an
    update of nan and no figures: a collapsed model is a result, and no factorisation is asked to survive it. Raises
    InputError for a system that is not well posed (`REFUSED`).
    """
    solved = _solved(prior, history, keys, residuals, correction, history_weight)
    if solved.gain is None or solved.residual is None:
        return Solution(solved.update, solved.form)
    figures = figures_of(keys.double(), residuals.double(), solved.update, solved.gain, solved.residual())
    return Solution(solved.update, solved.form, figures)


def least_squares_update(
    prior: Prior,
    history: KeyHistory,
    keys: torch.Tensor,
    residuals: torch.Tensor,
    *,
    history_weight: float = 1.0,
) -> Update:
    """Return the update of `least_squares_solution` alone, without its figures."""
    return _solved(prior, history, keys, residuals, None, history_weight).update


@dataclass(frozen=True)
class _Solved:
    """An update, its form, G = A^{-1} K where there is one, and a call for the residual of the form's system."""

    update: Update
    form: str
    gain: torch.Tensor | None = None
    residual: Callable[[], torch.Tensor] | None = None


def _solved(
    prior: Prior,
    history: KeyHistory,
    keys: torch.Tensor,
    residuals: torch.Tensor,
    correction: torch.Tensor | None,
    weight: float,
) -> _Solved:
    wide, asked = keys.double(), residuals.double()
    form = chosen_form(
        width=wide.shape[0],
        count=wide.shape[1],
        kept=_kept(history),
        carried=history.factor is not None,
        reduced=history.reduction is not None,
        corrected=correction is not None,
    )
    if not all_finite(wide, asked):
        return _Solved(LowRankUpdate(torch.full_like(asked, torch.nan), torch.full_like(wide, torch.nan)), form)
    if correction is not None:
        return _corrected(prior, history, wide, asked, correction, weight)
    if history.reduction is not None:
        gain, residual = reduced_gain(prior, history.reduction, wide)
        return _Solved(LowRankUpdate(asked, gain), form, gain, residual)
    if form == CARRIED:
        gain = _factored_gain(prior, history, wide, weight)
    elif form == MEMORY:
        memory = history.columns_with(wide, weight)
        gain = key_memory_gain(prior, wide if memory is None else memory, wide.shape[1])
    else:
        gain = prior.system(history.gram_with(wide, weight)).solve(wide)
    return _Solved(LowRankUpdate(asked, gain), form, gain, lambda: _residual(prior, history, wide, gain, weight))


def _kept(history: KeyHistory) -> int | None:
    """Return how many earlier keys are held as columns; None if only their Gram matrix is."""
    if history.gram is not None:
        return None
    return 0 if history.columns is None else history.columns.shape[1]


def _residual(prior: Prior, history: KeyHistory, keys: torch.Tensor, gain: torch.Tensor, weight: float) -> torch.Tensor:
    """Return |A G - K| / |K| inside the subspace where the prior is finite; A is applied, not formed."""
    memory = history.columns_with(keys, weight)
    if memory is None or history.gram is not None:
        seen = history.gram_with(keys, weight) @ gain
    else:
        seen = memory @ (memory.T @ gain)
    inside = prior.inside(keys)
    return relative_residual(prior.precision_times(gain) + prior.inside(seen) - inside, inside)


def _corrected(
    prior: Prior,
    history: KeyHistory,
    keys: torch.Tensor,
    residuals: torch.Tensor,
    correction: torch.Tensor,
    weight: float,
) -> _Solved:
    right = keys @ residuals.T + correction.to(keys).T
    gram = history.gram_with(keys, weight)
    system = prior.system(gram)
    update = DenseUpdate(system.solve(right).T)

    def residual() -> torch.Tensor:
        inside = prior.inside(right)
        return relative_residual(prior.times(gram, update.matrix).T - inside, inside)

    return _Solved(update, DENSE, system.solve(keys), residual)


def key_memory_gain(prior: Prior, memory: torch.Tensor, count: int) -> torch.Tensor:
    """Return A^{-1} K for the last `count` columns K of M `[d, N + n]`, by the (N + n)-sized form."""
    spread = prior.inverse(memory)
    core = memory.T @ spread
    core = (core + core.T) / 2
    core.diagonal().add_(1)
    selector = torch.eye(core.shape[0], dtype=core.dtype, device=core.device)[:, -count:]
    factor = cholesky_factor(core, what="I + M^T Pi^{-1} M")
    return spread @ torch.cholesky_solve(selector, factor)


@dataclass(frozen=True)
class _Border:
    """What new columns X `[d, n]` add to the factor L of I + h H^T Pi^{-1} H: `side` = L^{-1} sqrt(h) H^T Pi^{-1} X
    `[N, n]` and `corner`, the factor of I + X^T Pi^{-1} X - side^T side; with `spread` = Pi^{-1} X and `earlier`, H in
    float64."""

    spread: torch.Tensor
    earlier: torch.Tensor | None
    side: torch.Tensor | None
    corner: torch.Tensor

    def extended(self, factor: torch.Tensor | None) -> torch.Tensor:
        """Return the factor with the new rows."""
        if factor is None or self.side is None:
            return self.corner.contiguous()
        right = torch.cat([torch.zeros_like(self.side), self.corner])
        return torch.cat([torch.cat([factor.to(self.side), self.side.T]), right], dim=1)


def _border(prior: Prior, history: KeyHistory, new: torch.Tensor, weight: float) -> _Border:
    spread = prior.inverse(new)
    corner = new.T @ spread
    corner = (corner + corner.T) / 2
    corner.diagonal().add_(1)
    earlier, side = None, None
    if history.factor is not None and history.columns is not None:
        earlier = history.columns.to(new)
        cross = weight**0.5 * (spread.T @ earlier).T
        side = torch.linalg.solve_triangular(history.factor.to(new), cross, upper=False)
        corner -= side.T @ side
    return _Border(spread, earlier, side, cholesky_factor(corner, what="I + M^T Pi^{-1} M"))


def _factored_gain(prior: Prior, history: KeyHistory, keys: torch.Tensor, weight: float) -> torch.Tensor:
    """Return A^{-1} K from the history's factor: the same blocks of (I + M^T G)^{-1}, without the block of H."""
    border = _border(prior, history, keys, weight)
    last = torch.cholesky_inverse(border.corner)
    gain = border.spread @ last
    if border.side is None or border.earlier is None or history.factor is None:
        return gain
    shares = torch.linalg.solve_triangular(history.factor.to(keys).T, border.side @ last, upper=True)
    return gain - prior.inverse(weight**0.5 * (border.earlier @ shares))


def times_system(
    prior: Prior, history: KeyHistory, keys: torch.Tensor, change: torch.Tensor, *, history_weight: float = 1.0
) -> torch.Tensor:
    """Return X A for a change X `[o, d]`: what a change of the weight is in terms of the right-hand side."""
    return prior.times(history.gram_with(keys.double(), history_weight), change.double())
