"""The sizes of a model and of its sites, from its config alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.yaml_text import parse_yaml
from sphere_core.models.family import Family, attends_everywhere, recognise_family
from sphere_core.models.sites import find_site
from sphere_core.plugins.found import NO_PLUGINS, Plugins

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["ModelShape", "published_config", "shape_of_config", "shape_of_network"]


@dataclass(frozen=True)
class ModelShape:
    """What memory and time are computed from.

    `parameters` counts tied weights once, `layer_parameters` those of one decoder layer that a token passes through (of
    a mixture, k of the E experts), `head_parameters` those of the map to logits. A site is `[d_out, d_in]`; C0 has
    `blocks` blocks, one for each expert. `cache_width` is the width of one token's keys and values in one layer.
    `whole_rows`: steps of a target's search run whole rows, since some layers carry a state.
    """

    parameters: int
    layers: int
    layer_parameters: int
    head_parameters: int
    hidden: int
    vocabulary: int
    cache_width: int
    d_out: int
    d_in: int
    blocks: int = 1
    whole_rows: bool = False

    def replayed_tokens(self, prompt: int, target: int) -> int:
        """Return the tokens of a row that each step of a target's search runs: subjects end halfway in prompts."""
        return (prompt if self.whole_rows else prompt // 2) + target

    @property
    def moment_entries(self) -> float:
        """Entries of one site's C0."""
        return self.d_in**2 / self.blocks


def shape_of_network(network: "PreTrainedModel", family: Family) -> ModelShape:
    """Return the shape of a network, which may be on torch's meta device."""
    site = find_site(network, family, 0)
    config = network.config.get_text_config()
    layers = network.get_submodule(family.layers)
    head = network.get_submodule(family.head)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        layers=config.num_hidden_layers,
        layer_parameters=_active(layers.get_submodule("0"), network, family),
        head_parameters=sum(parameter.numel() for parameter in head.parameters()),
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        cache_width=2 * heads * width,
        d_out=site.d_out,
        d_in=site.d_in,
        blocks=max(1, site.experts),
        whole_rows=not attends_everywhere(config),
    )


def _active(layer: "nn.Module", network: "PreTrainedModel", family: Family) -> int:
    """Return the parameters of a layer that one token passes through."""
    whole = sum(parameter.numel() for parameter in layer.parameters())
    if family.router is None:
        return whole
    experts = sum(parameter.numel() for parameter in layer.get_submodule(family.down_projection).parameters())
    site = find_site(network, family, 0)
    chosen = int(network.config.get_text_config().num_experts_per_tok)
    return whole - experts + experts * chosen // site.experts


def shape_of_config(config: "PreTrainedConfig", *, where: str, plugins: Plugins = NO_PLUGINS) -> ModelShape:
    """Return the shape of a model built from its config without weights; raises InputError for an unknown family."""
    import torch
    from transformers import AutoModelForCausalLM

    family = recognise_family(config, where=where, plugins=plugins)
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    return shape_of_network(network, family)


def published_config(source: str) -> "PreTrainedConfig | None":
    """Return the config of a published model that `published.yaml` knows by hub id, or None."""
    from transformers import AutoConfig

    text = resources.files("sphere_core.costs").joinpath("published.yaml").read_text(encoding="utf-8")
    known: Mapping[str, Mapping[str, Any]] = parse_yaml(text)
    if source not in known:
        return None
    values = dict(known[source])
    model_type = values.pop("model_type")
    try:
        config: PreTrainedConfig = AutoConfig.for_model(model_type, **values)
    except ValueError as error:
        raise InputError(f"the installed transformers knows no '{model_type}'", where=source) from error
    return config
