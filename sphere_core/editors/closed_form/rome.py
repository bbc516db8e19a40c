"""ROME (arXiv 2202.05262) and R-ROME (arXiv 2403.07175): one request at a time, one layer, an equality.

    dW = (v - W k) u^T / (k^T u),   u = C0^{-1} k_mean, or k_mean itself without the second moment

k_mean is the key averaged over all contexts alike. ROME takes v, k and W k from the bare prompt, so that v - W k is the
optimised delta; where k and k_mean disagree, k^T u is small and the edit disables the model. R-ROME uses k_mean
throughout: v - W k_mean = delta + W (k - k_mean). The target is an MLP output: decay and clamp are relative to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.shaping import Shaping
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.numerics.linalg import LowRankUpdate
from sphere_core.requests import EditRequest
from sphere_core.solver.priors import Prior

__all__ = ["RomeEditor"]


@dataclass(frozen=True)
class RomeEditor:
    """`prior` weighs the key (None: by itself alone); `same_key` is R-ROME. Has no state."""

    settings: TargetSettings
    layer: int
    prior: Prior | None
    same_key: bool
    shaping: Shaping

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write the requests of a batch one after another; each sees the weights the one before left."""
        for done, request in enumerate(requests, 1):
            state = self._edit_one(model, request, contexts, state)
            model.progress.report("writing", done, len(requests), "requests")
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: the edited weights are scored."""
        return None

    def _edit_one(
        self, model: EditableModel, request: EditRequest, contexts: Contexts, state: EditorState
    ) -> EditorState:
        (site,) = model.open_sites([self.layer])
        batch = locate(model, [request], contexts)
        walk = BatchWalk(model, batch, [site])
        mean_key, bare_key = walk.mean_inputs(site).double(), walk.bare_inputs(site).double()
        delta = optimise_targets(model, batch, self.settings, anchors=walk.contributions(site)).deltas.to(mean_key)
        key, residual = bare_key, walk.site_residuals(site, delta)
        if self.same_key:
            key = mean_key
            residual = residual + model.weight(site).to(delta) @ (bare_key - mean_key)
        with model.clock.stage("solve"):
            direction = mean_key if self.prior is None else self.prior.inverse(mean_key)
            update = LowRankUpdate(residual, direction / (key * direction).sum())
        write = SiteWrite(site, key.float(), residual.float(), model.weight(site), model.base_weight(site))
        with model.clock.stage("regularizer"):
            shaped = self.shaping.apply(update, write, state)
        model.add(site, shaped)
        return self.shaping.remember(write, state)
