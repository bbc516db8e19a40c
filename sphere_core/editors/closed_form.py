"""Locate, then edit: targets at the last edited layer, spread over the layers, each written by one least-squares step.

For site i of L, in ascending order (MEMIT, arXiv 2210.07229): K_i the keys under the weights as they are now, H the
last edited layer's output now, R_i = (Z - H) / (L - i), dW_i from `least_squares_update`.
"""

from collections.abc import Mapping, Sequence

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.least_squares import KeyHistory, Prior, least_squares_update
from sphere_core.hyperparameters import Hyperparameters
from sphere_core.linalg import Update
from sphere_core.locate.batch import BatchWalk, locate
from sphere_core.locate.prompts import Contexts
from sphere_core.locate.targets import optimise_targets
from sphere_core.models.editable import EditableModel
from sphere_core.models.sites import Site
from sphere_core.regularizers.base import Regularizer, Scope
from sphere_core.requests import EditRequest

__all__ = ["ClosedFormEditor"]


class ClosedFormEditor:
    """MEMIT, AlphaEdit and their kin: `priors` holds Pi by layer, `keeps_history` whether earlier keys stay in A.

    `scope` says when regularizers act: on each update before it is written, so that later layers see and refit what was
    lost (IN_LOOP), or on all updates after the last layer is solved, when the batch's weights are restored and the
    regularized updates added (AFTER_BATCH).
    """

    def __init__(
        self,
        hyperparameters: Hyperparameters,
        priors: Mapping[int, Prior],
        *,
        keeps_history: bool,
        regularizers: Sequence[Regularizer],
        scope: Scope,
    ) -> None:
        self._hyperparameters = hyperparameters
        self._priors = priors
        self._keeps_history = keeps_history
        self._regularizers = tuple(regularizers)
        self._scope = scope

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write one batch; the state holds the key history of each layer where the method keeps one."""
        sites = model.open_sites(self._hyperparameters.layers)
        batch = locate(model, requests, contexts)
        targets = optimise_targets(model, batch, self._hyperparameters).values
        walk = BatchWalk(model, batch, sites)
        before = {site.layer: model.weight(site) for site in sites}
        updates: dict[int, Update] = {}
        keys: dict[int, torch.Tensor] = {}
        for index, site in enumerate(sites):
            keys[site.layer] = walk.keys(site)
            residuals = (targets - walk.outputs().to(targets)) / (len(sites) - index)
            update: Update = least_squares_update(
                self._priors[site.layer],
                _history(state, site.layer),
                keys[site.layer],
                residuals.to(keys[site.layer].device),
            )
            if self._scope is Scope.IN_LOOP:
                update = self._regularized(update, site, model)
            model.add(site, update)
            updates[site.layer] = update
        if self._scope is Scope.AFTER_BATCH and self._regularizers:
            self._write_regularized(model, sites, before, updates)
            if self._keeps_history:
                again = BatchWalk(model, batch, sites)
                keys = {site.layer: again.keys(site) for site in sites}
        return _appended(state, keys) if self._keeps_history else state

    def _regularized(self, update: Update, site: Site, model: EditableModel) -> Update:
        for regularizer in self._regularizers:
            update = regularizer.apply(update, site, model)
        return update

    def _write_regularized(
        self,
        model: EditableModel,
        sites: Sequence[Site],
        before: Mapping[int, torch.Tensor],
        updates: Mapping[int, Update],
    ) -> None:
        for site in sites:
            model.set_weight(site, before[site.layer])
        for site in sites:
            model.add(site, self._regularized(updates[site.layer], site, model))


def _history(state: EditorState, layer: int) -> KeyHistory:
    tensors = state.tensors
    return KeyHistory(tensors.get(f"history.{layer}.columns"), tensors.get(f"history.{layer}.gram"))


def _appended(state: EditorState, keys: Mapping[int, torch.Tensor]) -> EditorState:
    tensors = {name: tensor for name, tensor in state.tensors.items() if not name.startswith("history.")}
    for layer, batch_keys in keys.items():
        history = _history(state, layer)
        device = next((t.device for t in (history.columns, history.gram) if t is not None), batch_keys.device)
        history = history.append(batch_keys.to(device))
        for kind, tensor in (("columns", history.columns), ("gram", history.gram)):
            if tensor is not None:
                tensors[f"history.{layer}.{kind}"] = tensor
    return EditorState(tensors, state.scalars)
