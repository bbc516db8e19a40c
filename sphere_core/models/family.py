"""Recognising a model's family from its config, never from its name or path."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from typing import TYPE_CHECKING

from sphere_core.foundation.errors import InputError
from sphere_core.foundation.fingerprint import fingerprint
from sphere_core.foundation.yaml_text import parse_yaml
from sphere_core.hyperparameters.places import DOWN
from sphere_core.plugins.found import NO_PLUGINS, FoundRow, Plugins
from sphere_core.plugins.module import TABLES

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__ = ["Family", "attends_everywhere", "load_families", "recognise_family"]

# How configs say into how many experts an MLP is split.
_EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok")
# Layers of these types read the tokens before them as keys and values, all of them or a window.
_ATTENTION = frozenset(["full_attention", "sliding_attention", "chunked_attention"])


@dataclass(frozen=True)
class Family:
    """Where a family keeps the modules that editing needs (dotted paths from the causal LM).

    `decoder` maps token ids to final hidden states; `down_projection`, `other_sites` and `output_norm` are relative to
    one layer. `other_sites` are the MLP's matrices in front of the down projection, by name: gate and up, gate_up where
    one module holds both, up alone in an MLP without a gate.
    `output_norm` is the norm between the MLP and the residual stream, where there is one. `transposed` says that the
    down projection is stored as `[d_in, d_out]`, as GPT-2's. `attention` is the implementation that computes what the
    model was trained with. `router`, relative to one layer, is what chooses among the experts of a mixture; the module
    at `down_projection` then holds all experts of the layer (`experts.py`). `outside`: the row is a plugin's, so that
    it enters the digest of the model (`digest_of`).
    """

    name: str
    model_types: tuple[str, ...]
    decoder: str
    layers: str
    down_projection: str
    final_norm: str
    head: str
    output_norm: str | None = None
    transposed: bool = False
    attention: str = "sdpa"
    other_sites: Mapping[str, str] = field(default_factory=dict)
    router: str | None = None
    outside: bool = False

    def digest_of(self, files: str) -> str:
        """Return the digest of a model of this family from that of its files: a plugin's row counts as one of them."""
        return fingerprint({"files": files, "family": asdict(self)}) if self.outside else files

    @property
    def mixture(self) -> bool:
        """Whether layers are mixtures of experts."""
        return self.router is not None

    @property
    def carried(self) -> "Family | None":
        """What a plan has to say of the family: the row itself if it is a plugin's, nothing of one of the release."""
        return self if self.outside else None

    @property
    def site_modules(self) -> dict[str, str]:
        """The modules of a layer that can be edited, by name, each with its path inside the layer."""
        return {**self.other_sites, DOWN: self.down_projection}

    def site_path(self, layer: int, module: str = DOWN) -> str:
        """Return the dotted path of an edited module of one layer; raises KeyError for a module it does not have."""
        return f"{self.layers}.{layer}.{self.site_modules[module]}"

    def site_name(self, layer: int, module: str = DOWN) -> str:
        """Return the name of the parameter that holds an edited matrix, or all experts of a layer."""
        return f"{self.site_path(layer, module)}.{'weight' if self.router is None else 'down_proj'}"

    def output_norm_path(self, layer: int) -> str | None:
        """Return the dotted path of the norm behind the edited module of one layer, or None."""
        return None if self.output_norm is None else f"{self.layers}.{layer}.{self.output_norm}"


def load_families() -> dict[str, Family]:
    """Read every family file of the package, keyed by family name."""
    folder = resources.files("sphere_core.models.families")
    families = {}
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            fields = parse_yaml(entry.read_text(encoding="utf-8"))
            name = entry.name.removesuffix(".yaml")
            families[name] = Family(name=name, **{**fields, "model_types": tuple(fields["model_types"])})
    return families


def recognise_family(config: "PretrainedConfig", *, where: str, plugins: Plugins = NO_PLUGINS) -> Family:
    """Return the family whose `model_types` hold the config's `model_type`, of the release or of a plugin.

    Raises InputError, with the reason, for quantised weights, mixtures of experts, models of more than text and
    unknown model types, and for a faulty row of a plugin.
    """
    kind = config.model_type
    if getattr(config, "quantization_config", None):
        raise InputError(
            f"the weights of this '{kind}' model are quantised",
            where=f"{where}, config.json, key quantization_config",
            remedy="give the unquantised model: a site's weight must be a matrix that a small change can be added to",
        )
    families = load_families()
    known = sorted(name for family in families.values() for name in family.model_types)
    plugins.refuse_taken({"family": known})
    for family in families.values():
        if kind in family.model_types:
            return family
    found = plugins.find("family", kind)
    if found is not None:
        return _outside(found)
    if any((getattr(config.get_text_config(), name, None) or 0) > 1 for name in _EXPERT_COUNTS):
        raise InputError(
            f"model type '{kind}' is a mixture of experts",
            where=where,
            remedy="known mixtures: "
            + ", ".join(name for family in families.values() if family.router for name in family.model_types)
            + "; a dense model can be edited by every method",
        )
    if config.get_text_config() is not config:
        raise InputError(
            f"model type '{kind}' reads more than text",
            where=where,
            remedy=f"give a text-only model; known model types: {', '.join(known)}",
        )
    raise InputError(
        f"model type '{kind}' belongs to no known family",
        where=where,
        remedy=f"known model types: {', '.join(known)}; 'sphere new family {kind}' writes the start of another, to be "
        "named under 'plugins'",
    )


def attends_everywhere(config: "PretrainedConfig") -> bool:
    """Return whether every layer of a text config is attention over keys and values, where it says what layers are."""
    return set(getattr(config, "layer_types", None) or ()) <= _ATTENTION


def _outside(found: FoundRow) -> Family:
    """Return a plugin's family under its model type; raises InputError if it is not one, or lacks a path."""
    row, where = found.row, f"{found.plugin.place}, {TABLES['family']}['{found.name}']"
    if not isinstance(row, Family):
        raise InputError(
            f"the family '{found.name}' of the plugin '{found.plugin.reference.name}' is a {type(row).__name__}",
            where=where,
            remedy="Family(name=..., model_types=..., decoder=..., layers=..., down_projection=..., final_norm=..., "
            "head=...)",
        )
    paths = [row.decoder, row.layers, row.down_projection, row.final_norm, row.head, *row.other_sites.values()]
    if not all(isinstance(path, str) and path for path in paths):
        raise InputError(
            f"the family '{found.name}' of the plugin '{found.plugin.reference.name}' has a path that is not a text",
            where=where,
            remedy="paths are dotted names of modules, as model.named_modules() lists them",
        )
    return replace(row, name=found.name, model_types=(found.name,), other_sites=dict(row.other_sites), outside=True)
