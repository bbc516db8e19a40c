"""The one least-squares step behind every closed-form editor, in interchangeable exact forms.

    dW = (R K^T + B) A^{-1},   A = Pi + h H H^T + K K^T

Symbols: K keys of the batch `[d, n]`, R residuals `[o, n]`, H keys of earlier batches `[d, N]` with weight h, Pi the
prior's precision `[d, d]` (priors.py), B an optional correction `[o, d]` of the right-hand side (error feedback).
Editors differ only in Pi and in what they keep of H. All in float64.

Two forms of A^{-1} K, chosen by size. Key memory, while N + n < d, with M = [sqrt(h) H, K] and G = Pi^{-1} M
(Woodbury):
    A^{-1} M = G (I + M^T G)^{-1}, of which the last n columns count; no d x d state.
Dense, otherwise: a Cholesky factor of A itself.
"""

from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.linalg import DenseUpdate, LowRankUpdate, Update, cholesky_factor
from sphere_core.solver.priors import Prior

__all__ = ["KeyHistory", "corrected_update", "key_memory_gain", "least_squares_update", "times_system"]


@dataclass(frozen=True)
class KeyHistory:
    """Keys of earlier batches: as columns `[d, N]` fp32 while N < d, then as their Gram matrix `[d, d]` float64.

    Columns are the smaller state until N reaches d. With a `window` only the latest columns are kept, as columns.
    """

    columns: torch.Tensor | None = None
    gram: torch.Tensor | None = None

    @classmethod
    def of(cls, state: EditorState) -> "KeyHistory":
        """Read a history from a state."""
        return cls(state.tensors.get("columns"), state.tensors.get("gram"))

    def state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that a checkpoint keeps."""
        named = {"columns": self.columns, "gram": self.gram}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def append(self, keys: torch.Tensor, *, window: int | None = None) -> "KeyHistory":
        """Return the history with a batch's keys `[d, n]` added."""
        if self.gram is not None:
            wide = keys.to(self.gram)
            return KeyHistory(gram=self.gram + wide @ wide.T)
        columns = keys if self.columns is None else torch.cat([self.columns.to(keys), keys], dim=1)
        if window is not None:
            return KeyHistory(columns=columns[:, -window:].contiguous())
        if columns.shape[1] < columns.shape[0]:
            return KeyHistory(columns=columns)
        wide = columns.double()
        return KeyHistory(gram=wide @ wide.T)

    def columns_with(self, keys: torch.Tensor, weight: float) -> torch.Tensor | None:
        """Return M = [sqrt(h) H, K] `[d, N + n]` in the dtype of K, or None where only the Gram matrix is kept."""
        if self.gram is not None:
            return None
        return keys if self.columns is None else torch.cat([weight**0.5 * self.columns.to(keys), keys], dim=1)

    def gram_with(self, keys: torch.Tensor, weight: float) -> torch.Tensor:
        """Return h H H^T + K K^T `[d, d]` in the dtype of K."""
        if self.gram is not None:
            return weight * self.gram.to(keys) + keys @ keys.T
        memory = self.columns_with(keys, weight)
        columns = keys if memory is None else memory
        return columns @ columns.T


def least_squares_update(
    prior: Prior,
    history: KeyHistory,
    keys: torch.Tensor,
    residuals: torch.Tensor,
    *,
    history_weight: float = 1.0,
) -> LowRankUpdate:
    """Return dW = R K^T A^{-1} as its two factors R and A^{-1} K.

    Inputs that are not finite give an update of nan: a collapsed model is a result, and no factorisation is
    asked to survive it.
    """
    wide_keys, wide_residuals = keys.double(), residuals.double()
    if not bool(torch.isfinite(wide_keys).all() and torch.isfinite(wide_residuals).all()):
        return LowRankUpdate(torch.full_like(wide_residuals, torch.nan), torch.full_like(wide_keys, torch.nan))
    memory = history.columns_with(wide_keys, history_weight)
    if memory is not None and memory.shape[1] < memory.shape[0]:
        return LowRankUpdate(wide_residuals, key_memory_gain(prior, memory, wide_keys.shape[1]))
    return LowRankUpdate(wide_residuals, prior.solve(history.gram_with(wide_keys, history_weight), wide_keys))


def corrected_update(
    prior: Prior,
    history: KeyHistory,
    keys: torch.Tensor,
    residuals: torch.Tensor,
    correction: torch.Tensor | None,
    *,
    history_weight: float = 1.0,
) -> Update:
    """Return dW = (R K^T + B) A^{-1} for a correction B `[o, d]`; without one, `least_squares_update`."""
    finite = all(bool(torch.isfinite(part).all()) for part in (keys, residuals))
    if correction is None or not finite:
        return least_squares_update(prior, history, keys, residuals, history_weight=history_weight)
    wide = keys.double()
    right = wide @ residuals.double().T + correction.to(wide).T
    return DenseUpdate(prior.solve(history.gram_with(wide, history_weight), right).T)


def key_memory_gain(prior: Prior, memory: torch.Tensor, count: int) -> torch.Tensor:
    """Return A^{-1} K for the last `count` columns K of M `[d, N + n]`, by the (N + n)-sized form."""
    spread = prior.inverse(memory)
    core = memory.T @ spread
    core = (core + core.T) / 2
    core.diagonal().add_(1)
    selector = torch.eye(core.shape[0], dtype=core.dtype, device=core.device)[:, -count:]
    factor = cholesky_factor(core, what="I + M^T Pi^{-1} M")
    return spread @ torch.cholesky_solve(selector, factor)


def times_system(
    prior: Prior, history: KeyHistory, keys: torch.Tensor, change: torch.Tensor, *, history_weight: float = 1.0
) -> torch.Tensor:
    """Return X A for a change X `[o, d]`: what a change of the weight is in terms of the right-hand side."""
    return prior.times(history.gram_with(keys.double(), history_weight), change.double())
