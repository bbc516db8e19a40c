"""Recognising a model's family from its config, never from its name or path."""

from dataclasses import dataclass
from importlib import resources

import yaml
from transformers import PretrainedConfig

from sphere_core.errors import InputError

__all__ = ["Family", "load_families", "recognise_family"]


@dataclass(frozen=True)
class Family:
    """Where a family keeps the modules that editing needs (dotted paths from the causal LM).

    `decoder` maps token ids to final hidden states; `down_projection` is relative to one layer.
    """

    name: str
    model_types: tuple[str, ...]
    decoder: str
    layers: str
    down_projection: str
    final_norm: str
    head: str

    def site_path(self, layer: int) -> str:
        """Return the dotted path of the edited module of one layer."""
        return f"{self.layers}.{layer}.{self.down_projection}"


def load_families() -> dict[str, Family]:
    """Read every family file of the package, keyed by family name."""
    folder = resources.files("sphere_core.models.families")
    families = {}
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".yaml"):
            fields = yaml.safe_load(entry.read_text(encoding="utf-8"))
            name = entry.name.removesuffix(".yaml")
            families[name] = Family(name=name, **{**fields, "model_types": tuple(fields["model_types"])})
    return families


def recognise_family(config: PretrainedConfig, *, where: str) -> Family:
    """Return the family whose `model_types` hold the config's `model_type`; raises InputError otherwise."""
    families = load_families()
    for family in families.values():
        if config.model_type in family.model_types:
            return family
    known = sorted(kind for family in families.values() for kind in family.model_types)
    raise InputError(
        f"model type '{config.model_type}' belongs to no known family",
        where=where,
        remedy=f"known model types: {', '.join(known)}; a new family is one YAML file in sphere_core/models/families",
    )
