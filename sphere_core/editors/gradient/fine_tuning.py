"""FT and FT-L: Adam on the edited weights to make the target likely (FT-L: within a box around where it began).

Departs from the code released with ROME and MEMIT, which scores every target token at the prompt's last position,
trains on a BOS that the tokenizer adds and, for some tokenizers, on padding: here targets are teacher-forced and
nothing else is predicted. FT-L: after each step W is clamped to W_ref +- norm_constraint, entry by entry.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.shaping import Shaping
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.supervision import supervise
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import DenseUpdate
from sphere_core.requests import EditRequest

__all__ = ["FineTuningEditor", "FineTuningSettings", "GradientFilter", "weight_gradients"]

# From a site and the gradient of its weight `[d_out, d_in]`, fp32, to the gradient that is used instead.
GradientFilter = Callable[[Site, torch.Tensor], torch.Tensor]

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class FineTuningSettings:
    """Adam's rate and decay, epochs, requests a step, the loss that ends it, and FT-L's box (None: no box).

    `weighting`: the loss of a step is the mean over requests of the mean NLL of their target tokens, or the mean over
    all target tokens.
    """

    places: tuple[Place, ...]
    lr: float
    weight_decay: float
    epochs: int
    batch_size: int
    stop_loss: float
    box: float | None
    reference: Literal["batch", "trajectory"]
    weighting: Literal["requests", "tokens"] = "requests"


@dataclass(frozen=True)
class FineTuningEditor:
    """Fine-tunes fp32 masters of the sites; Adam is reset in every batch, so there is no state."""

    settings: FineTuningSettings
    shaping: Shaping

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Train on one batch of requests; the regularizers see the batch's whole change."""
        return self.tuned(model, requests, state)

    def tuned(
        self,
        model: EditableModel,
        requests: Sequence[EditRequest],
        state: EditorState,
        filtered: GradientFilter | None = None,
    ) -> EditorState:
        """Train on one batch; a filter turns the gradient of each site, weight decay included, into what Adam sees."""
        sites = model.open_sites(self.settings.places)
        start = {site.label: model.weight(site) for site in sites}
        with model.clock.stage("gradients"):
            self._train(model, sites, requests, filtered)
        for site in sites:
            before, base = start[site.label], model.base_weight(site)
            nothing = before.new_zeros(site.d_in, 0), before.new_zeros(site.d_out, 0)
            write = SiteWrite(site, *nothing, before, base)
            if self.shaping.regularizers:
                change = DenseUpdate(model.weight(site).double() - before.double())
                model.set_weight(site, before)
                with model.clock.stage("regularizer"):
                    shaped = self.shaping.apply(change, write, state)
                model.add(site, shaped)
            state = self.shaping.remember(write, state)
        return state

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is scored is what was edited."""
        return None

    def _train(
        self,
        model: EditableModel,
        sites: Sequence[Site],
        requests: Sequence[EditRequest],
        filtered: GradientFilter | None,
    ) -> None:
        reference = {
            site.label: model.base_weight(site) if self.settings.reference == "trajectory" else model.weight(site)
            for site in sites
        }
        moments = [(torch.zeros_like(model.weight(site)), torch.zeros_like(model.weight(site))) for site in sites]
        step = 0
        for epoch in range(self.settings.epochs):
            losses = []
            for begin in range(0, len(requests), self.settings.batch_size):
                chunk = requests[begin : begin + self.settings.batch_size]
                loss, gradients = weight_gradients(model, sites, chunk, self.settings.weighting)
                model.progress.sign()
                losses.append((loss, len(chunk)))
                if loss < self.settings.stop_loss:
                    continue
                step += 1
                moments = [
                    self._step(model, site, gradient, pair, step, reference[site.label], filtered)
                    for site, gradient, pair in zip(sites, gradients, moments, strict=True)
                ]
            model.progress.report("training", epoch + 1, self.settings.epochs, "epochs")
            if sum(loss * count for loss, count in losses) / len(requests) < self.settings.stop_loss:
                return

    def _step(
        self,
        model: EditableModel,
        site: Site,
        gradient: torch.Tensor,
        pair: tuple[torch.Tensor, torch.Tensor],
        step: int,
        reference: torch.Tensor,
        filtered: GradientFilter | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight = model.weight(site)
        gradient = gradient + self.settings.weight_decay * weight
        if filtered is not None:
            gradient = filtered(site, gradient)
        first = _BETA1 * pair[0] + (1 - _BETA1) * gradient
        second = _BETA2 * pair[1] + (1 - _BETA2) * gradient.square()
        rate = self.settings.lr / (1 - _BETA1**step)
        moved = weight - rate * first / ((second / (1 - _BETA2**step)).sqrt() + _EPSILON)
        if self.settings.box is not None:
            moved = torch.clamp(moved, min=reference - self.settings.box, max=reference + self.settings.box)
        model.set_weight(site, moved)
        return first, second


def weight_gradients(
    model: EditableModel,
    sites: Sequence[Site],
    requests: Sequence[EditRequest],
    weighting: Literal["requests", "tokens"],
) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of a chunk and its gradient for every site, fp32 `[d_out, d_in]`."""
    supervision = supervise(model, requests)
    with model.trainable(sites) as parameters:
        if weighting == "tokens":
            loss = supervision.token_loss(model) / len(supervision.targets)
        else:
            loss = supervision.loss(model)
        gradients = torch.autograd.grad(loss, parameters)
    stored = [site.canonical(gradient).float() for site, gradient in zip(sites, gradients, strict=True)]
    return float(loss.detach()), stored
