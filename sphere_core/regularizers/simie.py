"""SimIE (as in EasyEdit 14cea82): bring a sequence of single edits near the ideal editor of all of them at once."""

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import LowRankUpdate, Update
from sphere_core.solver.least_squares import KeyHistory, key_memory_gain
from sphere_core.solver.priors import MomentPrior

__all__ = ["Simie"]


class Simie:
    """dW' = dW K K^T (lambda I + H H^T + K K^T)^{-1}, H all keys written before.

    Kept as the factors dW K and the least-squares gain with the prior lambda I. State: the key history.
    """

    def __init__(self, *, ridge: float) -> None:
        self._ridge = ridge

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the corrected update; one that is not finite is passed on."""
        keys = write.keys.double()
        if not update.is_finite() or not bool(torch.isfinite(keys).all()):
            return update
        history = KeyHistory.of(state)
        prior = MomentPrior(None, weight=0.0, ridge=self._ridge, width=keys.shape[0])
        memory = history.columns_with(keys, 1.0)
        if memory is not None and memory.shape[1] < memory.shape[0]:
            gain = key_memory_gain(prior, memory, keys.shape[1])
        else:
            gain = prior.solve(history.gram_with(keys, 1.0), keys)
        written = update.left @ (update.right.T @ keys) if isinstance(update, LowRankUpdate) else update.matrix @ keys
        return LowRankUpdate(written, gain)

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Append the batch's keys."""
        return EditorState(KeyHistory.of(state).append(write.keys).state())
