"""LoRA: an adapter per batch of edits, trained on the targets and merged (arXiv 2106.09685, sequentially as in STABLE).

Per site and batch, W' = W + s B A with A `[r, d]`, B `[o, r]`, s = alpha / r; B begins at zero, A uniform in
+-1 / sqrt(d), drawn from `seed` and the number of batches before. Each step takes the loss of some requests (the mean
over them of the mean NLL of their target tokens), limits the norm of all gradients together, and is one of AdamW; the
rate falls linearly to 0 over the steps. After the batch the adapter is merged, and the next has one of its own.

Sequential merging, the optimiser and the schedule are those of STABLE's release (b7d4a10; arXiv 2510.16089). Departs
from it: the loss is on the targets alone (the release: passages about the fact, all tokens and padding); requests keep
their order in every epoch; only the edited sites have an adapter (the release: what peft chooses for the model).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sphere_core.checkpoints import EditorState
from sphere_core.editors.gradient.fine_tuning import weight_gradients
from sphere_core.editors.shaping import Shaping
from sphere_core.hyperparameters.places import Place
from sphere_core.locate.templates import Contexts
from sphere_core.models.editable import EditableModel
from sphere_core.models.site_write import SiteWrite
from sphere_core.models.sites import Site
from sphere_core.numerics.linalg import LowRankUpdate
from sphere_core.requests import EditRequest
from sphere_core.tuning.adapters import Lora
from sphere_core.tuning.optimiser import adamw, clipped

__all__ = ["LoraEditor", "LoraSettings", "batch_generator"]

_OWNER = "lora"


@dataclass(frozen=True)
class LoraSettings:
    """AdamW's rate and decay, epochs, requests a step, largest norm of all gradients (None: any), the draw's seed."""

    places: tuple[Place, ...]
    lr: float
    weight_decay: float
    epochs: int
    batch_size: int
    clip: float | None
    seed: int


@dataclass(frozen=True)
class LoraEditor:
    """State: the number of batches before, of which the next adapter is drawn."""

    adapter: Lora
    settings: LoraSettings
    shaping: Shaping

    def edit(
        self, model: EditableModel, requests: Sequence[EditRequest], contexts: Contexts, state: EditorState
    ) -> EditorState:
        """Train on one batch of requests and merge; the regularizers see the batch's whole change."""
        own = state.part(_OWNER)
        batch = int(own.scalars.get("batches", 0))
        sites = model.open_sites(self.settings.places)
        before = {site.label: model.weight(site) for site in sites}
        with model.clock.stage("gradients"):
            trained = self._trained(model, sites, requests, before, batch_generator(self.settings.seed, batch))
        for site in sites:
            weight = before[site.label]
            nothing = weight.new_zeros(site.d_in, 0), weight.new_zeros(site.d_out, 0)
            write = SiteWrite(site, *nothing, weight, model.base_weight(site))
            factors = _of(site, trained)
            update = LowRankUpdate(self.adapter.scale * factors["B"].double(), factors["A"].double().T)
            model.set_weight(site, weight)
            with model.clock.stage("regularizer"):
                shaped = self.shaping.apply(update, write, state)
            model.add(site, shaped)
            state = self.shaping.remember(write, state)
        return state.with_part(_OWNER, EditorState({}, {"batches": batch + 1}))

    def read_out(self, model: EditableModel) -> dict[str, torch.Tensor] | None:
        """Return None: what is scored is what was edited."""
        return None

    def _trained(
        self,
        model: EditableModel,
        sites: Sequence[Site],
        requests: Sequence[EditRequest],
        before: Mapping[str, torch.Tensor],
        generator: torch.Generator,
    ) -> Mapping[str, torch.Tensor]:
        """Return A and B of every site, fp32, by `SITE/TENSOR`."""
        settings, size = self.settings, self.settings.batch_size
        trained: Mapping[str, torch.Tensor] = {
            f"{site.label}/{key}": value
            for site in sites
            for key, value in self.adapter.start(before[site.label], generator).items()
        }
        first: Mapping[str, torch.Tensor] = {key: torch.zeros_like(value) for key, value in trained.items()}
        second = first
        chunks = [requests[begin : begin + size] for begin in range(0, len(requests), size)]
        total = settings.epochs * len(chunks)
        for step in range(total):
            for site in sites:
                model.set_weight(site, self.adapter.weight(before[site.label], _of(site, trained)))
            _, gradients = weight_gradients(model, sites, chunks[step % len(chunks)], "requests")
            slopes = {
                f"{site.label}/{key}": value
                for site, gradient in zip(sites, gradients, strict=True)
                for key, value in self.adapter.gradients(before[site.label], _of(site, trained), gradient).items()
            }
            if settings.clip is not None:
                slopes = clipped(slopes, settings.clip)
            rate = settings.lr * (total - step) / total
            trained, first, second = adamw(trained, first, second, slopes, rate, settings.weight_decay, step + 1)
            model.progress.report("training", step + 1, total, "steps")
        return trained


def batch_generator(seed: int, batch: int) -> torch.Generator:
    """Return the generator on the host that draws the adapters of a batch, counted from 0, site after site."""
    return torch.Generator().manual_seed((seed * 1_000_003 + batch) % 2**63)


def _of(site: Site, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: tensors[f"{site.label}/{key}"] for key in ("A", "B")}
