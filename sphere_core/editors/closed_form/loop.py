"""Locate, then edit: targets at the last edited layer, spread over the layers, each written by one rule.

For site i of L, in ascending order (MEMIT, arXiv 2210.07229): K_i the keys under the weights as they are now, H the
last edited layer's output now, R_i = (Z - H) / (L - i), dW_i from the site's rule; with `targets: forward` every layer
has a target of its own, and `root` spreads otherwise (`layer_targets`). In families with a norm behind the site, R_i is
what its output must gain for the layer's to gain that (`OutputNorm`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import WriteRule
from sphere_core.editors.returned import refuse_faulty_state, refuse_faulty_update
from sphere_core.editors.shaping import Shaping
from sphere_core.locate.batch import BatchWalk, LocatedBatch, locate
from sphere_core.locate.layer_targets import LayerTargets, layer_targets
from sphere_core.locate.targets import Targets, TargetSettings, optimise_targets
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import Update
from sphere_core.regularizers.nas import AnchorSettings, NormAnchor, anchor_of
from sphere_core.regularizers.scope import Scope
from sphere_core.requests import EditRequest
from sphere_core.solver.solution import Solution, as_solution, with_figures

__all__ = ["ClosedFormEditor", "FindTargets"]

FindTargets = Callable[[EditableModel, LocatedBatch, TargetSettings], Targets]


@dataclass(frozen=True)
class ClosedFormEditor:
    """MEMIT, AlphaEdit and related editors: `rules` write each site, `shaping` holds regularizers and when they act.

    State: one part per site for its rule (`rule/LAYER`) and the figures of its latest solve (`solve/LAYER`), one per
    regularizer, and the norm anchor if there is one. `find_targets` may give targets that were found before, under the
    same weights.
    """

    settings: TargetSettings
    layers: tuple[int, ...]
    rules: Mapping[int, WriteRule]
    shaping: Shaping
    anchor: AnchorSettings | None = None
    find_targets: FindTargets | None = None

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write one batch and return the state for the next."""
        sites = model.open_sites(self.layers)
        self.shaping.read_ahead({site.name: model.weight(site) for site in sites})
        batch = locate(model, requests, contexts)
        targets, state = self._targets(model, sites, batch, state)
        before = {site.layer: model.weight(site) for site in sites}
        writes, solutions, shaped = self._solve(model, sites, batch, targets, state)
        if self.shaping.rewrites:
            for site in sites:
                model.set_weight(site, before[site.layer])
                model.add(site, shaped[site.layer])
            # The layers saw other weights than those that are kept: the keys of later layers have changed.
            walk = BatchWalk(model, batch, sites)
            writes = {site.layer: replace(writes[site.layer], keys=walk.keys(site)) for site in sites}
        # The history will hold these keys, so the error is formed with them too: with the keys that the loop saw, what
        # is requested again is not what was lost, and the difference grows from batch to batch.
        for site in sites:
            write, rule = writes[site.layer], self.rules[site.layer]
            with model.clock.stage("regularizer"):
                state = self.shaping.fed_back(solutions[site.layer].update, shaped[site.layer], write, rule, state)
            state = with_figures(state, site.label, solutions[site.layer].figures)
        with model.clock.stage("history"):
            return self._remembered(model, sites, writes, state)

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: the edited weights are scored."""
        return None

    def _targets(
        self, model: EditableModel, sites: Sequence[Site], batch: LocatedBatch, state: EditorState
    ) -> tuple[LayerTargets, EditorState]:
        forward = self.settings.forward
        site = sites[0 if forward else -1]
        found = (self.find_targets or optimise_targets)(model, batch, self.settings)
        if self.anchor is None:
            return layer_targets(model, batch, sites, found.values, forward=forward, root=self.settings.root), state
        values = BatchWalk(model, batch, [site]).contributions(site).to(found.starts)
        norm = self.anchor.norm if self.anchor.norm is not None else state.scalars.get("anchor")
        if norm is None:
            norm = anchor_of(values, found.deltas)
        scaling = NormAnchor(float(norm), self.anchor.factor)
        kept = EditorState(state.tensors, {**state.scalars, "anchor": float(norm)})
        scaled = scaling.apply(found.starts, found.deltas, values)
        return layer_targets(model, batch, sites, scaled, forward=forward, root=self.settings.root), kept

    def _solve(
        self,
        model: EditableModel,
        sites: Sequence[Site],
        batch: LocatedBatch,
        targets: LayerTargets,
        state: EditorState,
    ) -> tuple[dict[int, SiteWrite], dict[int, Solution], dict[int, Update]]:
        """Walk through the layers, solving and writing each; return what was asked, solved and reshaped."""
        writes: dict[int, SiteWrite] = {}
        solutions: dict[int, Solution] = {}
        shaped: dict[int, Update] = {}
        walk = BatchWalk(model, batch, sites)
        for index, site in enumerate(sites):
            layer, keys = site.layer, walk.keys(site)
            residuals = walk.site_residuals(site, targets.change(walk, site, len(sites) - index))
            write = SiteWrite(site, keys, residuals.to(keys.device), model.weight(site), model.base_weight(site))
            rule_state = state.part(f"rule/{layer}")
            with model.clock.stage("solve"):
                rule = self.rules[layer]
                solutions[layer] = as_solution(rule.solve(write, rule_state, self.shaping.correction(layer, state)))
            solved = solutions[layer].update
            refuse_faulty_update(solved, write, rule.solve)
            with model.clock.stage("regularizer"):
                shaped[layer] = self.shaping.apply(solved, write, state)
            model.add(site, shaped[layer] if self.shaping.scope is Scope.IN_LOOP else solved)
            writes[layer] = write
            model.progress.report("writing", index + 1, len(sites), "sites")
        return writes, solutions, shaped

    def _remembered(
        self, model: EditableModel, sites: Sequence[Site], writes: Mapping[int, SiteWrite], state: EditorState
    ) -> EditorState:
        for site in sites:
            committed = replace(writes[site.layer], weight=model.weight(site))
            owner, rule = f"rule/{site.label}", self.rules[site.layer]
            kept = rule.remember(committed, state.part(owner))
            refuse_faulty_state(kept, rule.remember)
            state = state.with_part(owner, kept)
            state = self.shaping.remember(committed, state)
        return state
