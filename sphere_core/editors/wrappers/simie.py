"""SimIE (as in EasyEdit 14cea82): single edits of any editor, brought near the ideal editor of all of them at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.base import Editor
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.supervision import answered_ids
from sphere_core.locate.templates import Contexts
from sphere_core.models.activations import capture_inputs
from sphere_core.models.editable import EditableModel
from sphere_core.models.experts import gated_inputs, routings
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import LowRankUpdate
from sphere_core.numerics.placement import all_finite
from sphere_core.requests import EditRequest
from sphere_core.solver.least_squares import KeyHistory, key_memory_gain
from sphere_core.solver.priors import MomentPrior

__all__ = ["SimieEditor", "ideal_step"]


@dataclass(frozen=True)
class SimieEditor:
    """One request at a time. With V_t the weight that the base editor makes for request t, per site

        W_t = W_{t-1} + (V_t - W_{t-1}) K_t K_t^T P_t^{-1},    P_t = lambda I + sum_{s <= t} K_s K_s^T

    K_t `[d, m]` are the inputs of all m tokens of prompt and target, special tokens included, before the base editor
    writes; of the experts of a mixture, gated keys (`models/experts.py`). `from_unedited` (the release's `init_model:
    true`, in all its published files): the base editor starts from the unedited weights each time, and K_t are inputs
    of the unedited model; otherwise both are those of the model as edited so far.

    State: the base editor's under `editor`, and all K_s per site under `simie/SITE`. A request whose weight or keys
    are not finite leaves a weight that is not finite. Float64 where the release solves by an fp32 LU.
    """

    editor: Editor
    places: tuple[Place, ...]
    ridge: float
    from_unedited: bool

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Write the requests one after another and return the state for the next batch."""
        sites = model.open_sites(self.places)
        for done, request in enumerate(requests, 1):
            earlier = {site.label: model.weight(site) for site in sites}
            if self.from_unedited:
                model.restore_base()
            with model.clock.stage("keys"):
                keys = _token_keys(model, sites, request)
            state = state.with_part("editor", self.editor.edit(model, [request], contexts, state.part("editor")))
            for site in sites:
                owner = f"simie/{site.label}"
                history, change = KeyHistory.of(state.part(owner)), model.weight(site) - earlier[site.label]
                with model.clock.stage("solve"):
                    step = ideal_step(change, keys[site.label], history, self.ridge)
                model.set_weight(site, earlier[site.label])
                model.add(site, step)
                with model.clock.stage("history"):
                    state = state.with_part(owner, EditorState(history.append(keys[site.label]).state()))
            model.progress.report("writing", done, len(requests), "requests")
        return state

    def read_out(self, model: EditableModel) -> Mapping[str, torch.Tensor] | None:
        """Return what the base editor reads out."""
        return self.editor.read_out(model)


def ideal_step(change: torch.Tensor, keys: torch.Tensor, history: KeyHistory, ridge: float) -> LowRankUpdate:
    """Return change K K^T (lambda I + H H^T + K K^T)^{-1} as two factors, float64.

    `change` `[o, d]`, `keys` K `[d, m]`, `history` H all earlier keys. Nan where an input is not finite.
    """
    wide, moved = keys.double(), change.double()
    if not all_finite(wide, moved):
        return LowRankUpdate(torch.full_like(moved[:, :1], torch.nan), torch.full_like(wide[:, :1], torch.nan))
    prior = MomentPrior(None, weight=0.0, ridge=ridge, width=wide.shape[0])
    memory = history.columns_with(wide, 1.0)
    if memory is not None and memory.shape[1] < memory.shape[0]:
        return LowRankUpdate(moved @ wide, key_memory_gain(prior, memory, wide.shape[1]))
    return LowRankUpdate(moved @ wide, prior.system(history.gram_with(wide, 1.0)).solve(wide))


def _token_keys(model: EditableModel, sites: Sequence[Site], request: EditRequest) -> dict[str, torch.Tensor]:
    """Return each site's inputs `[d, m]` at every token of the prompt with its target, fp32: of experts, gated keys."""
    ids = torch.tensor([answered_ids(model.tokenizer, request)], device=model.device)
    modules = {site.label: model.network.get_submodule(site.module_path) for site in sites}

    def run() -> None:
        with torch.no_grad():
            model.decoder(input_ids=ids, use_cache=False)

    if model.family.mixture:
        found = routings(list(modules.values()), run)
        return {
            label: gated_inputs(module, routing).T.float()
            for (label, module), routing in zip(modules.items(), found, strict=True)
        }
    return {label: inputs[0].T.float() for label, inputs in capture_inputs(modules, run).items()}
