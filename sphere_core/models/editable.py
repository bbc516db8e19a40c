"""A causal language model whose sites can be read, changed, checked and restored."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.work_progress import WorkProgress
from sphere_core.hyperparameters.places import DOWN, Place, place_of, place_order
from sphere_core.models.attachable import AttachableModel
from sphere_core.models.attachments import Attachment
from sphere_core.models.family import Family
from sphere_core.models.outline import ModelOutline
from sphere_core.models.output_norm import OutputNorm
from sphere_core.models.overlays import Overlays
from sphere_core.models.sites import Site, find_site
from sphere_core.models.stage_clock import StageClock
from sphere_core.models.surroundings import Surroundings
from sphere_core.numerics.linalg import Update
from sphere_core.numerics.placement import same_bits
from sphere_core.numerics.tensor_digest import tensors_digest

__all__ = ["BEHIND_THE_HEAD", "EditableModel"]

# What causal models do behind the head, by keys of their configs: divide (Granite), multiply (Cohere), cap (Gemma 2).
BEHIND_THE_HEAD = ("logits_scaling", "logit_scale", "final_logit_softcapping")


class EditableModel(AttachableModel):
    """A Hugging Face causal LM with fp32 master copies of its edited sites.

    The network may be in any dtype; a site's master is fp32 `[d_out, d_in]`, and the network's own
    parameter is that master rounded to the network's dtype. Masters are replaced, never written in
    place, so a reference taken earlier stays what it was. `base_digest` names the unedited weights
    and tokenizer by content. `overlays` are other parameters that differ from the unedited ones, by name; a parameter
    is never a site and an overlay at once. `clock` holds the seconds that work on this model took, by stage,
    `progress` how far the work in hand is. Beside its weights the model may hold one attachment; a hook
    or module that appears otherwise, after `surroundings` were noted (by default now), is refused.
    """

    def __init__(
        self,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        family: Family,
        *,
        base_digest: str,
        originals: Mapping[str, torch.Tensor] | None = None,
        surroundings: Surroundings | None = None,
        progress: WorkProgress | None = None,
    ) -> None:
        super().__init__(network, base_digest, surroundings)
        network.train(False)
        network.requires_grad_(False)
        self.tokenizer = tokenizer
        self.family = family
        self._sites: dict[Place, Site] = {}
        self._base: dict[str, torch.Tensor] = {}
        self._masters: dict[str, torch.Tensor] = {}
        self._original: dict[str, torch.Tensor] = dict(originals or {})
        self.overlays = Overlays(network)
        self.progress = WorkProgress() if progress is None else progress
        self.clock = StageClock(self.device, self.progress.sign)

    @property
    def device(self) -> torch.device:
        """Where token ids go: the device of the input embeddings."""
        device: torch.device = next(self.network.get_input_embeddings().parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The network's own dtype."""
        dtype: torch.dtype = self.network.dtype
        return dtype

    @property
    def sites(self) -> list[Site]:
        """The open sites, in order of layers, and inside a layer in that of a forward."""
        return [self._sites[place] for place in sorted(self._sites, key=place_order)]

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers."""
        layers = self.network.get_submodule(self.family.layers)
        if not isinstance(layers, nn.ModuleList):
            raise TypeError(f"{self.family.layers} is a {type(layers).__name__}, not a list of layers")
        return layers

    @property
    def decoder(self) -> nn.Module:
        """The module from token ids to final hidden states."""
        decoder: nn.Module = self.network.get_submodule(self.family.decoder)
        return decoder

    def outline(self) -> ModelOutline:
        """Return the family and the down projection of every layer; opens none."""
        sites = tuple(find_site(self.network, self.family, layer) for layer in range(len(self.layers)))
        positions = getattr(self.network.config.get_text_config(), "max_position_embeddings", None)
        return ModelOutline(self.family, sites, positions)

    def open_sites(self, places: Sequence[Place]) -> list[Site]:
        """Return the sites at these places, taking fp32 masters on first use; a layer is its down projection.

        Must see a site's unedited weight the first time, or its overlay; raises InputError as `find_site` does.
        """
        for place in places:
            if place not in self._sites:
                site = find_site(self.network, self.family, place)
                self._sites[place] = site
                if site.name not in self._original:
                    known = self.overlays.original(site.name)
                    self._original[site.name] = self._parameter(site).detach().clone() if known is None else known
                self._base[site.name] = site.canonical(self._original[site.name]).float().clone()
                overlaid = self.overlays.take(site.name)
                self._masters[site.name] = self._base[site.name] if overlaid is None else site.canonical(overlaid)
        return [self._sites[place] for place in places]

    def weight(self, site: Site) -> torch.Tensor:
        """Return the fp32 master `[d_out, d_in]`; do not write to it."""
        return self._masters[site.name]

    def base_weight(self, site: Site) -> torch.Tensor:
        """Return the unedited fp32 weight `[d_out, d_in]`; do not write to it."""
        return self._base[site.name]

    def set_weight(self, site: Site, canonical: torch.Tensor) -> None:
        """Replace a site's master (fp32 `[d_out, d_in]`) and the network's parameter with it."""
        parameter = self._parameter(site)
        with self.clock.stage("write"), torch.no_grad():
            master = canonical.to(device=parameter.device, dtype=torch.float32)
            self._masters[site.name] = master
            parameter.copy_(site.stored(master))

    def add(self, site: Site, update: Update) -> None:
        """Add an update to a site: `W <- W + fp32(dW)`."""
        master = self._masters[site.name]
        with self.clock.stage("write"):
            self.set_weight(site, master + update.dense().to(master))

    def output_norm(self, site: Site) -> OutputNorm | None:
        """Return the norm between a site and the residual stream, or None if the site adds to it directly."""
        path = self.family.output_norm_path(site.layer) if site.module == DOWN else None
        if path is None:
            return None
        epsilon = float(self.network.config.get_text_config().rms_norm_eps)
        return OutputNorm.of(self.network.get_submodule(path), width=site.d_out, epsilon=epsilon)

    def edited_weights(self) -> dict[str, torch.Tensor]:
        """Return every open site's fp32 master under its parameter name, in stored orientation.

        With an attachment only those that differ from the unedited weights: its editor may have opened sites to read.
        """
        kept = [site for site in self.sites if self.attachment is None or self._is_changed(site)]
        return {site.name: site.stored(self._masters[site.name]).contiguous() for site in kept}

    def load_weights(
        self,
        stored: Mapping[str, torch.Tensor],
        attachment: Attachment | None = None,
        tuned: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Install edited weights given by parameter name in stored orientation, an attachment, and tuned parameters.

        Other open sites and parameters return to base, another attachment is removed. Raises KeyError for a name that
        is not a site of this model, InputError for an attachment or a tuned parameter that does not fit it.
        """
        family, layers = self.family, range(len(self.layers))
        known = {family.site_name(at, name): place_of(at, name) for name in family.site_modules for at in layers}
        self.open_sites([known[name] for name in stored])
        by_name = {site.name: site for site in self.sites}
        for name, site in by_name.items():
            if name in stored:
                self.set_weight(site, site.canonical(stored[name]))
            else:
                self._restore(site)
        self.overlays.replace({name: tensor for name, tensor in (tuned or {}).items() if name not in by_name})
        for name in (tuned or {}).keys() & by_name.keys():
            self.set_weight(by_name[name], by_name[name].canonical((tuned or {})[name]))
        if attachment is not self.attachment:
            self.attach(attachment)

    def restore_base(self) -> None:
        """Return every open site and overlay to its unedited weight, bit for bit, and remove the attachment."""
        self.attach(None)
        self.overlays.replace({})
        for site in self.sites:
            self._restore(site)

    def unedited_parameters(self) -> dict[str, torch.Tensor]:
        """Return every open site's unedited parameter by name; do not write to them."""
        return {site.name: self._original[site.name] for site in self.sites}

    def masters(self) -> dict[str, torch.Tensor]:
        """Return every open site's fp32 master `[d_out, d_in]`, and the overlays, by parameter name; do not write to
        them."""
        return {site.name: self._masters[site.name] for site in self.sites} | self.overlays.masters

    def reinstall(self, masters: Mapping[str, torch.Tensor], attachment: Attachment | None) -> None:
        """Install what `masters` returned, the same tensors and no copies, and an attachment."""
        for site in self.sites:
            self.set_weight(site, masters[site.name])
        sites = {site.name for site in self.sites}
        self.overlays.replace({name: master for name, master in masters.items() if name not in sites})
        self.attach(attachment)

    def holds(self, masters: Mapping[str, torch.Tensor]) -> bool:
        """Return whether `masters` are still those of the model, and the network's parameters are their values."""
        return self.overlays.holds(masters) and all(
            self._masters[site.name] is masters.get(site.name)
            and same_bits(self._parameter(site), site.stored(self._masters[site.name]).to(self._parameter(site).dtype))
            for site in self.sites
        )

    def weights_digest(self) -> str:
        """Return the digest of what answers now: the base, the live parameters that differ from it, the attachment.

        Raises InputError if something acts on the network that none of these names.
        """
        self.require_declared()
        live = {site.name: self._parameter(site).detach() for site in self.sites}
        changed = {name: tensor for name, tensor in live.items() if not self._is_original(name, tensor)}
        changed |= self.overlays.changed()
        parts = {"base": self.base_digest, "edited": tensors_digest(changed) if changed else None}
        # Without an attachment the digest is what it was before there were any.
        return fingerprint(parts if self.attachment is None else {**parts, "attached": self.attachment.digest})

    @contextmanager
    def trainable(self, sites: Sequence[Site]) -> Iterator[list[nn.Parameter]]:
        """Let gradients reach the live parameters of some sites (stored orientation) inside the block."""
        parameters = [self._parameter(site) for site in sites]
        try:
            for parameter in parameters:
                parameter.requires_grad_(True)
            yield parameters
        finally:
            for parameter in parameters:
                parameter.requires_grad_(False)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map decoder-layer outputs `[..., d_out]` through the final norm and the head to fp32 logits."""
        norm = self.network.get_submodule(self.family.final_norm)
        return self.normed_logits(norm(hidden.to(_device_of(norm))))

    def normed_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map the decoder's final hidden states `[..., d_out]` (after the norm) through the head to fp32 logits."""
        head = self.network.get_submodule(self.family.head)
        logits: torch.Tensor = head(hidden.to(_device_of(head))).float()
        config = self.network.config.get_text_config()
        divisor, factor, cap = (getattr(config, name, None) for name in BEHIND_THE_HEAD)
        logits = logits if divisor is None else logits / divisor
        logits = logits if factor is None else logits * factor
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _parameter(self, site: Site) -> nn.Parameter:
        return self.network.get_parameter(site.name)

    def _restore(self, site: Site) -> None:
        self._masters[site.name] = self._base[site.name]
        with torch.no_grad():
            self._parameter(site).copy_(self._original[site.name])

    def _is_changed(self, site: Site) -> bool:
        return not torch.equal(self._masters[site.name], self._base[site.name])

    def _is_original(self, name: str, tensor: torch.Tensor) -> bool:
        return torch.equal(tensor, self._original[name])


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device
