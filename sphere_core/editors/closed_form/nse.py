"""NSE (arXiv 2410.04045): targets from the unedited weights, only the most active neurons, and a second look.

In each of `max_iterations` - 1 passes (as released, the last turn only checks), over the requests still farther from
their target than alpha and nearer than the upper bound: for each layer the neurons (columns of W) with the largest
sum over requests of |k| that together hold the share `neuron_threshold` of it form I, and

    dW[:, I] = R K_I^T (lambda C0_II + A_II + K_I K_I^T)^{-1},     A the sum of k k^T over earlier batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.shaping import Shaping
from sphere_core.locate.batch import BatchWalk, LocatedBatch, locate
from sphere_core.locate.layer_targets import LayerTargets, layer_targets
from sphere_core.locate.targets import TargetSettings, optimise_targets
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import LowRankUpdate
from sphere_core.numerics.placement import Resident, all_finite
from sphere_core.requests import EditRequest
from sphere_core.solver import BESIDE_LAYERS, KeyHistory, MomentPrior, Placement, Solution, least_squares_solution
from sphere_core.solver.solution import with_figures

__all__ = ["NseEditor"]


@dataclass(frozen=True)
class NseEditor:
    """`moments` holds C0 `[d, d]` by layer. State: the key history of each layer.

    The released code finds all targets of a data set on the unedited model before the first edit; here the unedited
    weights are put back for as long as a batch's targets are found, which gives the same targets without knowing the
    whole stream.
    """

    settings: TargetSettings
    layers: tuple[int, ...]
    moments: Mapping[int, Resident[torch.Tensor]]
    weight: float
    alpha: float
    upper_bound: float
    neuron_threshold: float
    passes: int
    shaping: Shaping
    placement: Placement = BESIDE_LAYERS

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write one batch and append its keys, read after the last pass, to the history."""
        sites = model.open_sites(self.layers)
        self.shaping.read_ahead({site.name: model.weight(site) for site in sites})
        batch = locate(model, requests, contexts)
        targets = self._base_targets(model, sites, batch)
        for _ in range(self.passes):
            outputs = BatchWalk(model, batch, sites).outputs()
            distance = torch.linalg.vector_norm(targets.last - outputs.to(targets.last), dim=0)
            chosen = ((distance > self.alpha) & (distance < self.upper_bound)).nonzero().squeeze(1)
            # For a collapsed model both comparisons are false, so it is checked separately.
            if not all_finite(distance):
                chosen = torch.arange(len(distance), device=distance.device)
            if len(chosen) == 0:
                break
            state = self._pass(model, sites, batch.some(chosen.tolist()), targets.some(chosen), state)
        walk = BatchWalk(model, batch, sites)
        for site in sites:
            owner = f"rule/{site.layer}"
            keys = walk.keys(site)
            home = self._home(site, keys)
            with model.clock.stage("history"):
                history = KeyHistory.of(state.part(owner)).append(keys.to(home))
            state = state.with_part(owner, EditorState(history.state()))
            write = SiteWrite(site, keys, keys.new_zeros(site.d_out, 0), model.weight(site), model.base_weight(site))
            state = self.shaping.remember(write, state)
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: the edited weights are scored."""
        return None

    def _base_targets(self, model: EditableModel, sites: Sequence[Site], batch: LocatedBatch) -> LayerTargets:
        edited = [model.weight(site) for site in sites]
        model.restore_base()
        try:
            found = optimise_targets(model, batch, self.settings).values
            return layer_targets(model, batch, sites, found, forward=self.settings.forward)
        finally:
            for site, weight in zip(sites, edited, strict=True):
                model.set_weight(site, weight)

    def _pass(
        self,
        model: EditableModel,
        sites: Sequence[Site],
        batch: LocatedBatch,
        targets: LayerTargets,
        state: EditorState,
    ) -> EditorState:
        walk = BatchWalk(model, batch, sites)
        for index, site in enumerate(sites):
            keys = walk.keys(site)
            residuals = walk.site_residuals(site, targets.change(walk, site, len(sites) - index))
            write = SiteWrite(site, keys, residuals.to(keys.device), model.weight(site), model.base_weight(site))
            with model.clock.stage("solve"):
                solution = self._solve(write, KeyHistory.of(state.part(f"rule/{site.layer}")))
            with model.clock.stage("regularizer"):
                shaped = self.shaping.apply(solution.update, write, state)
            model.add(site, shaped)
            state = with_figures(state, site.label, solution.figures)
            model.progress.report("writing", index + 1, len(sites), "sites")
        return state

    def _home(self, site: Site, keys: torch.Tensor) -> torch.device:
        """Return where a site's system is solved and its history kept."""
        return torch.device("cpu") if site.layer in self.placement.on_host else keys.device

    def _solve(self, write: SiteWrite, history: KeyHistory) -> Solution:
        home = self._home(write.site, write.keys)
        keys, residuals = write.keys.to(home), write.residuals.to(home)
        neurons = strongest_neurons(keys, self.neuron_threshold)
        moment = self.moments[write.site.layer].at(home)[neurons][:, neurons]
        prior = MomentPrior(moment, weight=self.weight, ridge=0.0, width=len(neurons))
        columns, gram = history.columns, history.gram
        kept = KeyHistory(
            None if columns is None else columns.to(home)[neurons],
            None if gram is None else gram.to(home)[neurons][:, neurons],
        )
        solution = least_squares_solution(prior, kept, keys[neurons], residuals)
        chosen = solution.update
        if not isinstance(chosen, LowRankUpdate):
            raise TypeError("without a correction an update has two factors")
        right = torch.zeros(keys.shape[0], chosen.right.shape[1], dtype=torch.float64, device=home)
        right[neurons] = chosen.right
        return Solution(LowRankUpdate(chosen.left, right), solution.form, solution.figures).to(write.keys.device)


def strongest_neurons(keys: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the indices (ascending) of the neurons with the largest sum over requests of |k|, up to `threshold` of it.

    The released rule: those whose cumulative share, largest first, is at most the threshold; at least one.
    """
    scores = keys.double().abs().sum(dim=1)
    if not all_finite(scores):
        return torch.arange(len(scores), device=keys.device)
    values, order = scores.sort(descending=True, stable=True)
    shares = values.cumsum(0) / values.sum()
    # A share of exactly 1 can come out a rounding above it.
    count = max(1, int((shares <= threshold * (1 + 1e-12)).sum()))
    return order[:count].sort().values
