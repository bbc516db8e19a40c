"""Regularizers on an editor: in what order, when, and with error feedback or without."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import WriteRule
from sphere_core.editors.returned import Given, refuse_faulty_state, refuse_faulty_update
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import Update
from sphere_core.regularizers.base import Regularizer
from sphere_core.regularizers.read_ahead import ReadsAhead
from sphere_core.regularizers.scope import Scope

__all__ = ["Shaping"]


@dataclass(frozen=True)
class Shaping:
    """Named regularizers, applied in order, and when the result is written.

    IN_LOOP writes the reshaped update at once, so that later layers see and refit what was lost; AFTER_BATCH lets the
    layers see the whole updates and writes the reshaped ones at the end. With `error_feedback` (OTE-SE, arXiv
    2605.26670) what the regularizers F took away returns to the next right-hand side: E_t = (F(dW_t) - dW_t) (A_t +
    f I), next R K^T - E_t. A_t is the editor's system with the keys that are kept; f is `feedback_ridge`, 1 in the
    released code and 0 in the derivation, where the next step subtracts exactly what was lost. `reads_ahead`: a device
    has room for decompositions beside the targets.
    """

    regularizers: Sequence[tuple[str, Regularizer]]
    scope: Scope
    error_feedback: bool = False
    feedback_ridge: float = 0.0
    reads_ahead: bool = True

    @property
    def rewrites(self) -> bool:
        """Whether what is written at the end of a batch is not what the layers saw."""
        return bool(self.regularizers) and self.scope is Scope.AFTER_BATCH

    def read_ahead(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Let regularizers that can begin with the weights a batch starts from, by site name, before its updates."""
        for _, regularizer in self.regularizers:
            if self.reads_ahead and isinstance(regularizer, ReadsAhead):
                regularizer.read_ahead(weights)

    def correction(self, layer: int, state: EditorState) -> torch.Tensor | None:
        """Return -E of the batch before, `[o, d]`, or None."""
        error = state.part(f"feedback/{layer}").tensors.get("error")
        return None if error is None else -error

    def apply(self, update: Update, write: SiteWrite, state: EditorState) -> Update:
        """Return the update after all regularizers; raises InputError with the line of code that is at fault."""
        for name, regularizer in self.regularizers:
            part = state.part(f"{name}/{write.site.label}")
            given = Given(regularizer.apply, write, update, part)
            update = regularizer.apply(update, write, part)
            given.refuse_changes()
            refuse_faulty_update(update, write, regularizer.apply)
        return update

    def fed_back(
        self, solved: Update, shaped: Update, write: SiteWrite, rule: WriteRule, state: EditorState
    ) -> EditorState:
        """Note what was lost between the solved and the reshaped update.

        `write` holds the keys that will be kept, `state` the rule's state from before the batch.
        """
        if not self.error_feedback:
            return state
        layer = write.site.layer
        lost = shaped.dense() - solved.dense()
        error = rule.times_system(lost, write, state.part(f"rule/{layer}"))
        if self.feedback_ridge:
            error = error + self.feedback_ridge * lost.to(error)
        return state.with_part(f"feedback/{layer}", EditorState({"error": error}))

    def remember(self, write: SiteWrite, state: EditorState) -> EditorState:
        """Let every regularizer note the batch; raises InputError as `apply` does."""
        for name, regularizer in self.regularizers:
            owner = f"{name}/{write.site.label}"
            part = state.part(owner)
            given = Given(regularizer.remember, write, None, part)
            kept = regularizer.remember(write, part)
            given.refuse_changes()
            refuse_faulty_state(kept, regularizer.remember)
            state = state.with_part(owner, kept)
        return state
