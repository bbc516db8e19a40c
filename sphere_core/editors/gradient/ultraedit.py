"""UltraEdit (arXiv 2505.14679): one backward pass, running normalisation, one small solve; no targets, no C0, no
subject.

For each site, over the positions that predict a target token: inputs H `[m, d]` and gradients G `[m, o]` of the loss
with respect to the site's output. A running mean and deviation of [h, g] over all edits normalise them; then

    v_i = -lr |h^_i|^2 g^_i,    dW = V^T (H H^T + I)^{-1} H        (raw H; the m x m form of (H^T H + I)^{-1} H^T V)

The released code (0beb222) differs from this text in three ways that change the size of a step. Each is a named
option, so that both can be run: how the variance is summed, how target tokens are weighted, and what shares a
normalisation. The presets choose the released form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.running_moments import RunningMoments
from sphere_core.editors.gradient.tracing import traced
from sphere_core.editors.shaping import Shaping
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.supervision import answered_ids
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import LowRankUpdate, cholesky_factor
from sphere_core.numerics.placement import all_finite
from sphere_core.requests import EditRequest

__all__ = ["UltraEditEditor", "UltraEditSettings"]

# What the released code adds to a deviation: the step of float32 at 1.
_EPSILON = float(torch.finfo(torch.float32).eps)


@dataclass(frozen=True)
class UltraEditSettings:
    """Learning rate, requests in one backward pass, and the three options.

    `variance`: of each mini-batch of m rows, `unbiased` adds m times its unbiased variance to the running sum of
    squares (release), `exact` the sum of squares itself. `weighting`: the loss is the mean over all target tokens of a
    mini-batch (`tokens`, release), or each request's mean counts alike and does not depend on its company
    (`requests`). `sharing`: one normalisation for all sites of one shape (`shape`, release), or one a `site`.
    """

    lr: float
    batch_size: int
    variance: Literal["unbiased", "exact"]
    weighting: Literal["tokens", "requests"]
    sharing: Literal["shape", "site"]


@dataclass(frozen=True)
class UltraEditEditor:
    """State: for each normalisation the count, mean and running sum of squares of [h, g], float64."""

    places: tuple[Place, ...]
    settings: UltraEditSettings
    shaping: Shaping

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write one batch: gradients of all its requests are taken on the weights as the batch found them.

        Mini-batches are formed from the longest request (prompt and target) to the shortest, as released.
        """
        sites = model.open_sites(self.places)
        ordered = sorted(requests, key=lambda request: -len(answered_ids(model.tokenizer, request)))
        seen: dict[Site, list[torch.Tensor]] = {site: [] for site in sites}
        for begin in range(0, len(ordered), self.settings.batch_size):
            chunk = ordered[begin : begin + self.settings.batch_size]
            with model.clock.stage("gradients"):
                found = traced(model, sites, chunk, self.settings.weighting)
            for site in sites:
                owner, rows = self._owner(site), found[site]
                moments = RunningMoments.of(state.part(owner)).with_rows(rows, unbiased=self._is_unbiased)
                state = state.with_part(owner, moments.state())
                seen[site].append(rows)
            model.progress.report("gradients", min(begin + len(chunk), len(ordered)), len(ordered), "requests")
        for site in sites:
            rows = torch.cat(seen[site])
            h, g = rows[:, : site.d_in], rows[:, site.d_in :]
            with model.clock.stage("solve"):
                update = self._update(rows, site.d_in, RunningMoments.of(state.part(self._owner(site))))
            write = SiteWrite(site, h.T.float(), g.T.float(), model.weight(site), model.base_weight(site))
            with model.clock.stage("regularizer"):
                shaped = self.shaping.apply(update, write, state)
            model.add(site, shaped)
            state = self.shaping.remember(write, state)
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is scored is what was edited."""
        return None

    @property
    def _is_unbiased(self) -> bool:
        return self.settings.variance == "unbiased"

    def _owner(self, site: Site) -> str:
        """Return the part of the state that holds a site's normalisation."""
        shared = self.settings.sharing == "shape"
        return f"normalisation/{site.d_out}x{site.d_in}" if shared else f"normalisation/{site.label}"

    def _update(self, rows: torch.Tensor, width: int, moments: RunningMoments) -> LowRankUpdate:
        """Return dW from the rows [h, g] `[m, d + o]` of a batch, `width` the number d of inputs."""
        h = rows[:, :width]
        if not all_finite(rows):
            return LowRankUpdate(torch.full_like(rows[:, width:].T, torch.nan), torch.full_like(h.T, torch.nan))
        normal = moments.normalised(rows, epsilon=_EPSILON)
        h_normal, g_normal = normal[:, :width], normal[:, width:]
        values = -self.settings.lr * h_normal.square().sum(dim=1, keepdim=True) * g_normal
        system = h @ h.T
        system.diagonal().add_(1)
        factor = cholesky_factor(system, what="H H^T + I")
        return LowRankUpdate(values.T, torch.cholesky_solve(h, factor).T)
