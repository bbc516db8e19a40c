"""UltraEdit (arXiv 2505.14679): one backward pass, running normalisation, one small solve; no targets, no C0, no
subject.

For each site, over the positions that predict a target token: inputs H `[m, d]` and gradients G `[m, o]` of the loss
with respect to the site's output. A running mean and variance of [h, g] over all edits normalise them; then

    v_i = -lr |h^_i|^2 g^_i,    dW = V^T (H H^T + I)^{-1} H        (raw H; the m x m form of (H^T H + I)^{-1} H^T V)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.shaping import Shaping
from sphere_core.locate.prompts import Contexts
from sphere_core.locate.supervision import supervise
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import LowRankUpdate, cholesky_factor
from sphere_core.requests import EditRequest

__all__ = ["UltraEditEditor"]

_EPSILON = 1e-8


@dataclass(frozen=True)
class UltraEditEditor:
    """State: for each site the count, mean and sum of squared deviations of [h, g], float64.

    The released code shares one normalisation among all sites of equal shape; here each site has its own. Sums of
    deviations are merged batch by batch, so that a batch of one token is no special case.
    """

    layers: tuple[int, ...]
    lr: float
    batch_size: int
    shaping: Shaping

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write one batch: gradients of all its requests are taken on the weights as the batch found them."""
        sites = model.open_sites(self.layers)
        inputs: dict[int, list[torch.Tensor]] = {site.layer: [] for site in sites}
        gradients: dict[int, list[torch.Tensor]] = {site.layer: [] for site in sites}
        for begin in range(0, len(requests), self.batch_size):
            for site, (rows, slopes) in _traced(model, sites, requests[begin : begin + self.batch_size]).items():
                inputs[site.layer].append(rows)
                gradients[site.layer].append(slopes)
        for site in sites:
            h, g = torch.cat(inputs[site.layer]), torch.cat(gradients[site.layer])
            owner = f"normalisation/{site.layer}"
            statistics = _merged(state.part(owner), torch.cat([h, g], dim=1))
            state = state.with_part(owner, statistics)
            update = self._update(h, g, statistics)
            write = SiteWrite(site, h.T.float(), g.T.float(), model.weight(site), model.base_weight(site))
            model.add(site, self.shaping.apply(update, write, state))
            state = self.shaping.remember(write, state)
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is scored is what was edited."""
        return None

    def _update(self, h: torch.Tensor, g: torch.Tensor, statistics: EditorState) -> LowRankUpdate:
        if not bool(torch.isfinite(h).all() and torch.isfinite(g).all()):
            return LowRankUpdate(torch.full_like(g.T, torch.nan), torch.full_like(h.T, torch.nan))
        count = float(statistics.scalars["count"])
        deviation = (statistics.tensors["squares"] / max(count - 1, 1)).sqrt() + _EPSILON
        normal = (torch.cat([h, g], dim=1) - statistics.tensors["mean"]) / deviation
        h_normal, g_normal = normal[:, : h.shape[1]], normal[:, h.shape[1] :]
        values = -self.lr * h_normal.square().sum(dim=1, keepdim=True) * g_normal
        system = h @ h.T
        system.diagonal().add_(1)
        factor = cholesky_factor(system, what="H H^T + I")
        return LowRankUpdate(values.T, torch.cholesky_solve(h, factor).T)


def _merged(before: EditorState, rows: torch.Tensor) -> EditorState:
    """Add rows `[m, d + o]` to a running count, mean and sum of squared deviations (Chan's parallel form)."""
    added, mean = rows.shape[0], rows.mean(dim=0)
    squares = (rows - mean).square().sum(dim=0)
    if "count" not in before.scalars:
        return EditorState({"mean": mean, "squares": squares}, {"count": added})
    count = int(before.scalars["count"])
    total = count + added
    shift = mean - before.tensors["mean"].to(mean)
    merged = before.tensors["mean"].to(mean) + shift * (added / total)
    spread = before.tensors["squares"].to(mean) + squares + shift.square() * (count * added / total)
    return EditorState({"mean": merged, "squares": spread}, {"count": total})


def _traced(
    model: EditableModel, sites: Sequence[Site], requests: Sequence[EditRequest]
) -> dict[Site, tuple[torch.Tensor, torch.Tensor]]:
    """Return inputs `[m, d]` and output gradients `[m, o]` of each site at the predicting positions, float64."""
    supervision = supervise(model, requests)
    seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def observe(layer: int, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        watched = output if output.requires_grad else output.detach().requires_grad_(True)
        seen[layer] = (args[0].detach(), watched)
        return watched

    modules = [model.network.get_submodule(site.module_path) for site in sites]
    handles = [
        module.register_forward_hook(lambda _, args, out, layer=site.layer: observe(layer, args, out))
        for site, module in zip(sites, modules, strict=True)
    ]
    try:
        # Summed, not averaged, over requests: a request's gradient must not depend on its company.
        loss = supervision.loss(model) * len(requests)
        slopes = torch.autograd.grad(loss, [seen[site.layer][1] for site in sites])
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for site, slope in zip(sites, slopes, strict=True):
        values = seen[site.layer][0]
        rows, positions = supervision.rows.to(values.device), supervision.positions.to(values.device)
        found[site] = (values[rows, positions].double(), slope[rows, positions].double())
    return found
